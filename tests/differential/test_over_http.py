"""The check answers in its shortest way what it answers by the engine, and what biscuit-python says."""

from pathlib import Path
from typing import Any

import pytest

from capability.remembered import Form
from tests.differential.over_http import Case, Sums

CASES = 16
STEPS = 60


def first_disagreement(folder: Path, counted: Sums) -> str | None:
    for seed in range(CASES):
        wrong = Case(seed, folder).disagreement(STEPS, counted)
        if wrong is not None:
            return f"seed {seed}: {wrong}"
    return None


def test_a_check_answers_alike_with_the_engine_and_without_it_and_as_the_peer(tmp_path: Path) -> None:
    counted = Sums()
    wrong = first_disagreement(tmp_path, counted)
    assert wrong is None, wrong
    assert counted.fast > counted.asked / 4, counted
    assert min(counted.statuses[status] for status in (200, 400, 401, 403)) > 20, counted
    assert sum(counted.peers.values()) > counted.asked / 2, counted


_begin = Form.__init__


def _with_all_policies_holding(form: Form, *arguments: Any) -> None:
    _begin(form, *arguments)
    form.holds = (True,) * len(form.holds)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param("datalog.inline._told", lambda literal, *_: literal, id="an overflow is passed over"),
        pytest.param("forms.RequestForm.allows_at_once", lambda *_: True, id="whatever comes is let in"),
        pytest.param("remembered.Form.answers", lambda *_: (), id="answers are left out"),
        pytest.param(
            "remembered.Form.__init__",
            _with_all_policies_holding,
            id="denials and what fails always are passed over",
        ),
    ],
)
def test_a_short_way_that_goes_wrong_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: object, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"capability.{name}", wrong)
    assert first_disagreement(tmp_path, Sums()) is not None
