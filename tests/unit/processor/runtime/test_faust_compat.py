"""The private parts of Faust are those that `faust_compat` was written for."""

import importlib.metadata

from faust.streams import Stream
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

from processor.runtime import faust_compat


def test_the_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("faust-streaming") == faust_compat.WRITTEN_FOR


def test_faust_has_the_private_parts_that_are_used() -> None:
    names = ("_consumer", "_commit", "_create_worker_consumer", "_fetch_records", "commit")
    for name in (*names, "getmany"):
        assert hasattr(AIOKafkaConsumerThread, name)
    for name in ("_new_offset", "_add_gap", "_commit"):
        assert hasattr(Consumer, name)
    for name in ("_enable_passive", "add_processor", "current_event", "enable_acks"):
        assert hasattr(Stream, name)
