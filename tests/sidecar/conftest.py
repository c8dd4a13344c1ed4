"""What all tests of the sidecar have in common."""

import functools
from dataclasses import replace

import pytest

from capability import Guard
from capability.datalog.limits import GUARD_LIMITS

PATIENT = replace(GUARD_LIMITS, max_time=None)
MODULES = ("apiguards", "guards", "needs")


@pytest.fixture(autouse=True)
def without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives guards the time they need: a busy machine passes 100 ms now and then. Steps stay bounded."""
    patient = functools.partial(Guard, limits=PATIENT)
    for module in MODULES:
        monkeypatch.setattr(f"capability.sidecar.{module}.Guard", patient)
