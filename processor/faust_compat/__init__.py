"""Faust, adapted: everything that uses its private parts.

Written for faust-streaming 0.15.3, pinned.

`tests/unit/processor/faust_compat/test_faust_compat.py` fails if a part no longer exists; the
integration tests of the processor fail if a part behaves differently.
"""

WRITTEN_FOR = "0.15.3"
