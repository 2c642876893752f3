"""The changelog producer sends record batches one after the other, and none after an error."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from processor.changelog.producer import ChangelogProducer
from processor.core.write_batch import NO_HEADERS, RecordBatch
from service.config.settings import KafkaSettings


class ManualProducer:
    """Keeps batches until a test acknowledges them."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, asyncio.Future[RecordMetadata]]] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1024 * 1024, 0)

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self.sent.append((partition, batch.record_count(), future))
        return future

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.sent) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def acknowledge(self, number: int, offset: int) -> None:
        partition, _, future = self.sent[number]
        future.set_result(RecordMetadata("t", partition, None, offset, 1000 + offset, 1, 0))


@pytest.fixture
async def sender() -> ManualProducer:
    return ManualProducer()


@pytest.fixture
async def changelog(sender: ManualProducer) -> ChangelogProducer:
    settings = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1")
    changelog = ChangelogProducer(settings, "entity-state", "dead-letter")
    changelog._producer = sender
    return changelog


def batch(count: int) -> RecordBatch:
    return [(b"key", b"value", NO_HEADERS)] * count


async def test_a_record_batch_is_sent_after_the_previous_one_is_acknowledged(
    changelog: ChangelogProducer, sender: ManualProducer
) -> None:
    writing = asyncio.create_task(changelog.write({3: [batch(2), batch(5)], 4: [batch(1)]}))
    await sender.until(2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [(partition, count) for partition, count, _ in sender.sent] == [(3, 2), (4, 1)]
    sender.acknowledge(0, 10)
    await sender.until(3)
    sender.acknowledge(1, 0)
    sender.acknowledge(2, 12)
    written = await writing
    assert (written[3].offsets, written[3].appended_ms) == ([(10, 12), (12, 17)], 1012)
    assert written[4].offsets == [(0, 1)]


async def test_nothing_is_written_after_an_error(
    changelog: ChangelogProducer, sender: ManualProducer
) -> None:
    """The caller then compares with Kafka's state, and writes the rest with a new producer."""
    writing = asyncio.create_task(changelog.write({3: [batch(1)], 4: [batch(1), batch(1)]}))
    await sender.until(2)
    sender.sent[0][2].set_exception(OutOfOrderSequenceNumber())
    sender.acknowledge(1, 0)
    await sender.until(3)
    assert not writing.done()
    sender.acknowledge(2, 1)
    with pytest.raises(OutOfOrderSequenceNumber):
        await writing


async def test_a_fatal_error_takes_precedence_over_a_repairable_one(
    changelog: ChangelogProducer, sender: ManualProducer
) -> None:
    writing = asyncio.create_task(changelog.write({3: [batch(1)], 4: [batch(1)]}))
    await sender.until(2)
    errors: list[Any] = [OutOfOrderSequenceNumber(), KafkaError("disk")]
    for (_, _, future), error in zip(sender.sent, errors, strict=True):
        future.set_exception(error)
    with pytest.raises(KafkaError, match="disk"):
        await writing
