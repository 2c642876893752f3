"""Wanted commits are kept until Kafka has them, and a stop until it ends."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import RequestTimedOutError
from aiokafka.structs import TopicPartition
from faust.types import TP

from contract.history import STOPPED_METADATA
from processor.faust_compat import consumer as module
from processor.faust_compat.consumer import _ConsumerThread
from processor.faust_compat.wanted_commits import WantedCommits

P0, P1 = TP("submissions", 0), TP("submissions", 1)


class Kafka:
    """The part of aiokafka's consumer that the thread needs; stores the last commit."""

    def __init__(self) -> None:
        self.committed: dict[int, tuple[int, str]] = {}
        self.errors: list[Exception] = []
        self.hangs = False

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.errors:
            raise self.errors.pop()
        self.committed |= {
            tp.partition: (each.offset, each.metadata) for tp, each in offsets.items()
        }


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def thread(kafka: Kafka) -> _ConsumerThread:
    thread = cast(Any, _ConsumerThread.__new__(_ConsumerThread))
    thread.consumer = SimpleNamespace(wanted=WantedCommits())
    thread.tp_last_committed_at = {}
    thread._ensure_consumer = lambda: kafka
    thread.assignment = lambda: {P0, P1}
    return cast(_ConsumerThread, thread)


async def test_a_commit_that_resumes_a_partition_is_repeated_until_kafka_has_it(
    kafka: Kafka, thread: _ConsumerThread
) -> None:
    thread.wanted.stop(P0, 10, "the topic ends at 9")
    assert await thread.commit_wanted()
    assert kafka.committed[0] == (10, STOPPED_METADATA + "the topic ends at 9")
    thread.wanted.resume({P0: 4})
    kafka.errors = [RequestTimedOutError(), RequestTimedOutError()]
    assert not await thread.commit_wanted()
    assert not await thread.commit_wanted()
    assert thread.wanted
    assert await thread.commit_wanted()
    assert kafka.committed[0] == (4, "")
    assert not thread.wanted


async def test_a_commit_without_a_response_is_repeated(
    kafka: Kafka, thread: _ConsumerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_TIMEOUT", 0.01)
    thread.wanted.resume({P0: 4})
    kafka.hangs = True
    assert not await thread.commit_wanted()
    kafka.hangs = False
    assert await thread.commit_wanted()
    assert kafka.committed[0] == (4, "")


async def test_an_acknowledgement_of_faust_does_not_end_a_stop(
    kafka: Kafka, thread: _ConsumerThread
) -> None:
    thread.wanted.stop(P0, 10, "not certain")
    assert await thread._commit({P0: 8, P1: 3})
    assert kafka.committed == {0: (10, STOPPED_METADATA + "not certain"), 1: (3, "")}
    assert await thread._commit({P0: 9})
    assert kafka.committed[0][1] == STOPPED_METADATA + "not certain"


async def test_a_failed_commit_of_faust_is_repeated(kafka: Kafka, thread: _ConsumerThread) -> None:
    """Faust regards it as done, and commits again only after the next acknowledgement."""
    kafka.errors = [RequestTimedOutError()]
    assert not await thread._commit({P1: 3})
    assert await thread.commit_wanted()
    assert kafka.committed == {1: (3, "")}


async def test_a_commit_requested_during_another_one_is_not_forgotten() -> None:
    wanted = WantedCommits()
    wanted.stop(P0, 10, "x")
    sent = wanted.pending([P0])
    wanted.resume({P0: 4})
    wanted.committed(sent)
    assert wanted.pending([P0])[P0].metadata == ""


async def test_a_partition_that_another_worker_owns_is_forgotten() -> None:
    wanted = WantedCommits()
    wanted.stop(P0, 10, "x")
    assert wanted.pending([P1]) == {}
    wanted.acknowledge({P0: 3})
    assert wanted.pending([P0])[P0].metadata == "", "the next comparison stops it again"


async def test_a_thread_ends_although_its_consumer_is_cancelled_at_a_stop(
    thread: _ConsumerThread,
) -> None:
    class Consumer:
        """Its stop awaits a fetch that it has cancelled while it waits for a retry."""

        def __init__(self) -> None:
            self._client = SimpleNamespace(close=self._close)
            self.is_closed = False

        async def stop(self) -> None:
            fetch = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            fetch.cancel()
            await fetch

        async def _close(self) -> None:
            self.is_closed = True

    consumer = Consumer()
    cast(Any, thread)._consumer = consumer
    await thread.on_thread_stop()
    assert consumer.is_closed
