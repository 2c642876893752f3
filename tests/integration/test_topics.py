"""Topics on a real Kafka that is not complete yet."""

import asyncio

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError
from structlog.testing import capture_logs

from service.kafka import administration, ensure_topics
from service.settings import KafkaSettings
from tobogganing.local.cluster import Cluster


async def test_brokers_that_are_still_missing_are_waited_for(
    kafka: Cluster, topic_prefix: str
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_replication=3,
    )
    with capture_logs() as said, pytest.raises(InvalidReplicationFactorError):
        await ensure_topics(settings, patience=1.2)
    assert [line["event"] for line in said].count("waiting for Kafka") >= 2


async def test_a_topic_of_large_segments_is_warned_of(kafka_settings: KafkaSettings) -> None:
    with capture_logs() as said:
        rows = (await ensure_topics(kafka_settings)).entity_state
        await ensure_topics(kafka_settings)
    assert {line["log_level"] for line in said} == {"info"}
    values = rows.settings | {"segment.bytes": str(2**30)}
    async with administration(kafka_settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, rows.name, values)])
    said = []
    async with asyncio.timeout(10):
        while not said:  # until the broker has heard of it
            with capture_logs() as said:
                await ensure_topics(kafka_settings)
    (warning,) = said
    assert warning["log_level"] == "warning"
    assert (warning["topic"], warning["segment_bytes"]) == (rows.name, 2**30)
    assert f"segment.bytes={rows.settings['segment.bytes']}" in warning["event"]
