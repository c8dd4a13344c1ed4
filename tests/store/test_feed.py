"""Processes that follow a store while others revoke all come to deny the same. CAP_FEED says how many ids."""

import os
from pathlib import Path

from benchmarks.stores import VERIFIERS, followed

COUNT = int(os.environ.get("CAP_FEED", "3000"))


def test_every_process_comes_to_deny_all(tmp_path: Path) -> None:
    delays, _ = followed(f"sqlite:///{tmp_path}/cap.db", COUNT)
    assert len(delays) == VERIFIERS * COUNT // 100
    assert max(delays) < 30  # seconds: a verifier that hangs, and not a slow machine
