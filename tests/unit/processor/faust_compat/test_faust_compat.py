"""The private parts of Faust are those that `faust_compat` was written for."""

import importlib.metadata

import faust
import pytest
from faust.streams import Stream
from faust.tables import TableManager
from faust.tables.base import Collection
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

from processor import faust_compat


def test_the_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("faust-streaming") == faust_compat.WRITTEN_FOR


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (AIOKafkaConsumerThread, ("_consumer", "_commit", "_create_worker_consumer")),
        (AIOKafkaConsumerThread, ("_fetch_records", "_ensure_consumer", "commit", "getmany")),
        (Consumer, ("_new_offset", "_add_gap", "_commit", "_getmany", "_new_consumer_thread")),
        (Stream, ("_enable_passive", "add_processor", "current_event", "enable_acks")),
        (faust.App, ("_consumer", "_crash", "_create_directories")),
        (faust.Worker, ("_setup_logging", "_sentinel_task")),
        (TableManager, ("_update_channels", "recovery")),
        (Collection, ("_new_store",)),
    ],
)
def test_faust_has_the_private_parts_that_are_used(kind: type, names: tuple[str, ...]) -> None:
    assert [name for name in names if not hasattr(kind, name)] == []


async def test_a_consumer_has_the_private_parts_that_are_used() -> None:
    app = faust.App("test", broker="kafka://localhost:1", datadir="/nonexistent")

    assert app._consumer is None
    consumer = app._new_consumer()
    for name in ("_acked", "_acked_index", "_gap", "_committed_offset"):
        assert len(getattr(consumer, name)) == 0
    assert isinstance(consumer._thread, AIOKafkaConsumerThread)
    assert hasattr(consumer._thread, "thread_loop")
