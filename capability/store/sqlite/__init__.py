"""A store in one SQLite file, shared by any number of threads and processes of a machine.

A write is one `BEGIN IMMEDIATE` transaction, so revisions follow each other without gaps whoever writes, and
`synchronous=FULL` makes a revocation outlive a power cut once `revoke` has returned.
"""

from capability.store.sqlite.connection import create
from capability.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from capability.store.sqlite.store import SQLiteStore

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SQLiteStore", "create"]
