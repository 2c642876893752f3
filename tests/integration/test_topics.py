"""Topics on a real Kafka that is not complete yet."""

import pytest
from aiokafka.errors import InvalidReplicationFactorError
from structlog.testing import capture_logs

from service.kafka import ensure_topics
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
