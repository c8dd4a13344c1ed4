"""The check beside a service in any language: `cap serve`.

A proxy or an application asks about each request over HTTP or gRPC; a Guard decides; the answer's status, and
headers that say who it is, go back. Nothing here decides by itself.
"""
