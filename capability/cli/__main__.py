"""`python -m capability.cli` is `cap`."""

import sys

from capability.cli.entry import main

sys.exit(main())
