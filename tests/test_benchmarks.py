"""What the benchmarks say: figures held against their bars, and a document that shows what was measured."""

import json

import pytest

from benchmarks import report
from benchmarks.measure import Row, calls_for, paired


@pytest.mark.parametrize(
    ("figure", "bar", "at_least", "held"),
    [
        (0.5, 0.6, False, True),
        (0.6, 0.6, False, True),
        (0.7, 0.6, False, False),
        (0.7, 0.9, True, False),
        (0.95, 0.9, True, True),
        (0.7, None, False, None),
        (None, 0.6, False, None),
    ],
)
def test_a_bar_is_held_or_missed(
    figure: float | None, bar: float | None, at_least: bool, held: bool | None
) -> None:
    assert Row("case", "what", 1.0, 2.0, figure, bar, at_least).held is held


def test_jobs_take_turns_and_each_number_comes_once() -> None:
    calls: list[tuple[str, int]] = []
    pairs = paired(
        lambda n: calls.append(("ours", n)), lambda n: calls.append(("peer", n)), rounds=4, calls=(2, 1)
    )
    assert [side for side, _ in calls] == [
        *("ours", "ours", "peer"),
        *("peer", "ours", "ours"),
        *("ours", "ours", "peer"),
        *("peer", "ours", "ours"),
    ]
    assert [n for side, n in calls if side == "ours"] == list(range(8))
    assert [n for side, n in calls if side == "peer"] == list(range(4))
    assert len(pairs.ratios) == 4


@pytest.mark.parametrize(("a_call", "calls"), [(1e-6, 1000), (1e-4, 10), (2.0, 1)])
def test_a_round_is_long_enough_for_the_clock(
    monkeypatch: pytest.MonkeyPatch, a_call: float, calls: int
) -> None:
    monkeypatch.setattr("benchmarks.measure._timed", lambda job, numbers: a_call)
    assert calls_for(lambda _: None, seconds=0.001) == calls


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.456e-6, "3.46 µs"),
        (34.56e-6, "34.6 µs"),
        (345.6e-6, "346 µs"),
        (3.456e-3, "3.46 ms"),
        (3.456, "3.46 s"),
    ],
)
def test_times_are_shown_in_three_digits(value: float, shown: str) -> None:
    assert report.quantity(value, "s") == shown


@pytest.mark.parametrize(("value", "shown"), [(0.02, "1/50"), (0.1, "1/10"), (0.6, "0.60"), (1.25, "1.25")])
def test_small_ratios_are_shown_as_fractions(value: float, shown: str) -> None:
    assert report.ratio(value) == shown


def test_a_missed_bar_is_called_missed() -> None:
    cells = report.line(Row("cold", "3 blocks", 3e-4, 2e-4, 1.5, 1.25, low=1.4, high=1.6))
    assert cells == ("cold", "3 blocks", "300 µs", "200 µs", "1.50 (1.40 to 1.60)", "≤ 1.25", "missed")


def test_a_table_replaces_the_one_before_and_nothing_else() -> None:
    document = f"above\n{report.BEGIN}\nold\n\n{report.END}below\n"
    assert report.with_table(document, "new\n") == f"above\n{report.BEGIN}\nnew\n\n{report.END}below\n"
    with pytest.raises(ValueError, match="no place"):
        report.with_table("above\n", "new\n")


def test_the_document_shows_what_was_measured() -> None:
    results = json.loads(report.RESULTS.read_text("utf-8"))
    document = report.DOCUMENT.read_text("utf-8")
    assert report.with_table(document, report.markdown(results)) == document, "run: make bench"
    for curve in results["curves"]:
        assert f"time-over-{curve['name']}.png" in document
        assert (report.DOCUMENT.parent / f"time-over-{curve['name']}.png").exists()
