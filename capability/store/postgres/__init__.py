"""A store in a PostgreSQL database: the system of record for a fleet, shared by any number of machines.

A write is one transaction that holds the row of the revision, so revisions follow each other without gaps
whoever writes, and it is on the server's disk once `revoke` has returned. Whoever follows the store is
woken by NOTIFY. Everything is in a schema of its own, `capability`.
"""

from capability.store.postgres.connection import Target, create
from capability.store.postgres.schema import MIGRATIONS
from capability.store.postgres.store import PostgresStore

__all__ = ["MIGRATIONS", "PostgresStore", "Target", "create"]
