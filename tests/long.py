"""Long forms of tests, which `make test-nightly` runs and `make test` leaves out or shortens.

A test marked `long` runs only if LONG=1. Other tests read IS_LONG and do less without it.
"""

import os

IS_LONG = os.environ.get("LONG") == "1"
