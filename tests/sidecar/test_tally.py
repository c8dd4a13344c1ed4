"""What a sidecar counts is exact, whichever threads and workers count."""

import threading
import time
from typing import SupportsIndex

from capability.sidecar.tally import EVENTS, Board, Tally


class Slow(list[int]):
    """Numbers that are slow to be read, so that another thread comes between a reading and a writing."""

    def __getitem__(self, at: SupportsIndex | slice) -> int:  # type: ignore[override]
        found = super().__getitem__(at)
        time.sleep(0.001)
        assert isinstance(found, int)
        return found


def count(tally: Tally) -> None:
    for _ in range(10):
        tally.answered("allowed", 1)
        tally.happened("log_dropped", 2)


def test_threads_that_count_at_once_lose_nothing() -> None:
    numbers = Slow([0] * 200)
    tally = Tally(numbers)
    threads = [threading.Thread(target=count, args=(tally,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # each thread: 10 answers, in one bucket, of 1 ns each; and 20 that were dropped
    assert sorted(number for number in numbers if number) == [40, 40, 40, 80]


def test_the_thread_of_the_loop_and_the_others_lose_nothing_of_each_other() -> None:
    tally, board = Tally(Slow([0] * 200)), Board(1)
    numbers = tally._numbers

    def count_in_loop() -> None:
        for _ in range(10):
            tally.answered_in_loop("allowed", 1)

    threads = [threading.Thread(target=each) for each in (lambda: count(tally), count_in_loop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number in numbers if number) == [10] * 6 + [20]
    for each in (board.row(0).answered, board.row(0).answered_in_loop):
        each("denied", 30_000)
    assert board.decisions()["denied"] == 2
    assert board.durations() == ([0, 2, *[0] * 12], 60e-6)


def test_workers_are_added_up() -> None:
    board = Board(2)
    for worker in range(2):
        count(board.row(worker))
    assert board.decisions()["allowed"] == 20
    assert board.events() == {event: 40 if event == "log_dropped" else 0 for event in EVENTS}
    counts, seconds = board.durations()
    assert (sum(counts), seconds) == (20, 20e-9)
