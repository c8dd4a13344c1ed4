"""Where the data that several tests read is: beside the project, not in it."""

import os
from functools import cache
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def samples_dir() -> Path:
    """Returns the folder of the official sample tokens; skips the test without it, and fails it in CI."""
    return _required(_SHARED / "biscuit" / "samples")


def crypto_vectors_dir() -> Path:
    """Returns the folder of the signature vectors; skips the test without it, and fails it in CI."""
    return _required(_SHARED / "crypto-vectors")


@cache
def _required(folder: Path) -> Path:
    if not folder.is_dir():
        message = f"no conformance data beside the checkout: ../{folder.relative_to(_SHARED.parent)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
