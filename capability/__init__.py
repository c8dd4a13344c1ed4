"""Capability tokens in the Biscuit format: narrowed offline, checked by Datalog, revoked for good."""
