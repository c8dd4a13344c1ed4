"""How a process that goes on for months frees what refers to itself.

Commands of `cap` end soon, and begin without. Connections, requests, forgotten tokens and replaced policies
are freed when nobody refers to them any more. The rest is not: what code was generated with, what was made
for a download, an error.

A collection of everything looks at all tokens that are remembered, and meanwhile nobody is answered: for half
a second where there are 100,000, which is longer than a proxy waits. So what one has left is not looked at by
the next (gc.freeze), and each takes the few milliseconds of what has come since. When keys or policies have
changed, everything is looked at: what they replaced was set aside, and next to nothing is remembered yet.
"""

import gc
from typing import Final

_OLDEST: Final = 2
"""The generation whose collection is one of everything that was not set aside."""
_SOON: Final = 2
"""How many collections of the middle generation go before one of the oldest: few, so that each takes less.
Nothing is looked at more often for that, as what is left is set aside.
"""


def begin() -> None:
    """Has garbage collected from now on, in this process and in those that are forked from it."""
    gc.callbacks.append(_set_aside)
    # modules, for the most part; workers go on sharing the pages that nothing is written to
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:_OLDEST], _SOON)
    gc.enable()


def collect_all() -> None:
    """Looks for garbage among everything, also what was set aside."""
    gc.unfreeze()
    gc.collect()


def _set_aside(phase: str, about: dict[str, int]) -> None:
    if phase == "stop" and about["generation"] == _OLDEST:
        gc.freeze()
