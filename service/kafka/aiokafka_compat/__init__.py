"""Private parts of aiokafka that this project uses. Written for aiokafka 0.14.0, pinned.

Each entry names the test that fails if the part no longer exists or behaves differently.
`tests/unit/service/kafka/test_aiokafka_compat.py::test_the_version_is_the_pinned_one` fails first.
"""

WRITTEN_FOR = "0.14.0"
