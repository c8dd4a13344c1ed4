"""`python -m tests.differential.fuzz N [--seed S]`: N random cases, from a seed on that is printed.

With `--relatives` each case is one guard that is asked about tokens which are like one another, beside one
that remembers nothing. Ends with 1 at the first disagreement, after printing the smallest case that shows it.
"""

import argparse
import secrets
import sys

from tests.differential.cases import random_case
from tests.differential.first_sight import Sights, sights
from tests.differential.tally import Tally, smallest

_PROGRESS = 5_000


def main() -> int:
    """Runs the cases that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.fuzz")
    parser.add_argument("cases", type=int, help="how many")
    parser.add_argument("--seed", type=int, help="the first seed; a case is its seed's (default: any)")
    parser.add_argument("--relatives", action="store_true", help="tokens that are like one another")
    arguments = parser.parse_args()
    first = secrets.randbelow(2**48) if arguments.seed is None else arguments.seed
    print(f"{arguments.cases} cases from --seed {first}", flush=True)
    if arguments.relatives:
        return _relatives(range(first, first + arguments.cases))
    counted = Tally()
    for seed in range(first, first + arguments.cases):
        wrong = counted.add(random_case(seed))
        if wrong:
            print(f"seed {seed}: the engines disagree\n\n{smallest(wrong[0])}\n\nafter {counted}")
            return 1
        if counted.cases % _PROGRESS == 0:
            print(counted, flush=True)
    print(counted)
    return 0


def _relatives(seeds: range) -> int:
    counted = Sights()
    for start in range(0, len(seeds), _PROGRESS):
        wrong = sights(seeds[start : start + _PROGRESS], counted)
        print(counted, flush=True)
        if wrong is not None:
            print(wrong)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
