"""The long forms of tests: `make test-long` runs them."""

import os

IS_LONG = os.environ.get("LONG") == "1"
