"""Slow, obvious implementations to compare the real ones with."""
