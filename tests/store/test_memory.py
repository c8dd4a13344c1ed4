"""The store in memory keeps the contract."""

from pathlib import Path

from capability.store import Store
from capability.store.memory import MemoryStore
from tests.store.contract import WakingContract


class TestMemoryStore(WakingContract):
    def make_store(self, tmp_path: Path) -> Store:
        return MemoryStore()
