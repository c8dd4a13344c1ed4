"""`python -m capability.cli` is `cap`."""

import sys

from capability.cli import run

sys.exit(run())
