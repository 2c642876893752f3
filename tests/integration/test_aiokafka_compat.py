"""The parts of aiokafka and of brokers that service.kafka.aiokafka_compat relies on."""

from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.leader_epochs import EpochEnd
from service.kafka.aiokafka_compat.record_batches import leader_epoch, patch_record_batches
from service.kafka.aiokafka_compat.zstd_codec import zstd_batch
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.source_reader import SourceReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.frames import FrameWriter, client, ids_of


def test_the_installed_version_is_the_one_it_was_written_for() -> None:
    assert version("aiokafka") == "0.14.0"


async def test_a_batch_is_compressed_with_zstd(settings: KafkaSettings) -> None:
    """And only batches are: other records of the same producer are not."""
    topic = (await ensure_topics(settings)).submissions.name
    value = b"value " * 1000
    async with AIOKafkaProducer(**client_options(settings)) as producer:
        batch = zstd_batch(2**20)
        batch.append(timestamp=None, key=b"key", value=value, headers=[("name", b"header")])
        await (await producer.send_batch(batch, topic, partition=0))
        assert batch.size() < len(value) / 10
        await producer.send_and_wait(topic, value, partition=0)
    found: list[ConsumerRecord] = []
    async with TopicReader(settings, topic, [0]) as reader:
        await reader.read_to_end(lambda _, records: found.extend(records), {})
    assert [(record.offset, record.key, record.value) for record in found] == [
        (0, b"key", value),
        (1, None, value),
    ]
    assert found[0].headers == (("name", b"header"),)


async def test_topic_ids_epochs_and_tags(
    settings: KafkaSettings, frames: FrameWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.kafka.source_reader.PATIENCE", 0.5)
    patch_record_batches()
    (id,) = ids_of(0, settings.kafka_partitions, 1)
    for value in range(3):
        await frames.frame(0, client(id, bytes_sent=value))
    topic = topics_from(settings).submissions.name
    async with SourceReader(settings, topic, range(settings.kafka_partitions)) as reader:
        details = await reader.describe()
        assert len(bytes.fromhex(details.id)) == 16
        assert details.leaders.keys() == set(range(settings.kafka_partitions))
        assert {leader.epoch for leader in details.leaders.values()} == {0}
        assert await reader.epoch_ends(details, {0: 0, 1: 0}) == {
            0: EpochEnd(0, 3),
            1: EpochEnd(0, 0),
        }
        assert await reader.epoch_ends(details, {0: 7}) == {0: EpochEnd(-1, -1)}
        with pytest.raises(KafkaError):  # it leads in epoch 0; another broker has led since
            await reader.epoch_ends(details, {0: 0}, {0: 9})
        assert await reader.spans(3) == {0: (0, 3), 1: (0, 0)}
        record = await reader.record_from(0, 1, 3)
        assert record is not None
        assert (record.offset, leader_epoch(record)) == (1, 0)
        assert await reader.record_from(0, 3, 3) is None
    async with SourceReader(settings, topic + "-none", [0]) as reader:
        with pytest.raises(UnknownTopicOrPartitionError):
            await reader.describe()
