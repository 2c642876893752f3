"""Records acknowledged by one broker are on its disk if it flushes every append, and only then.

`tests/e2e/test_power_cut.py` shows that the rows, which are not flushed, are restored.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.frames import client, frame_writer
from tests.integration.test_source_history import end_of
from tests.unsynced import SyncedJava
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import FLUSH_EACH_APPEND

NUMBER = 50


@pytest.mark.parametrize(
    ("properties", "kept"),
    [
        pytest.param(FLUSH_EACH_APPEND, NUMBER, id="flushed"),
        pytest.param({}, 0, id="usual", marks=pytest.mark.long),
    ],
)
async def test_acknowledged_records_after_a_power_cut(
    kafka_install: Install, tmp_path: Path, properties: Mapping[str, object], kept: int
) -> None:
    java = SyncedJava.make(tmp_path)
    cluster = Cluster(tmp_path / "kafka", java.of(kafka_install), properties=lambda _: properties)
    await cluster.start()
    settings = KafkaSettings(kafka_bootstrap_servers=cluster.bootstrap_servers, kafka_partitions=1)
    topic = topics_from(settings).submissions.name
    try:
        await ensure_topics(settings)
        async with frame_writer(settings) as frames:
            for number in range(NUMBER):
                assert await frames.frame(0, client("c-1", bytes_sent=number)) == number
        (broker,) = cluster.brokers
        await broker.kill()
        cut = java.drop_unsynced(broker.folder / "data")
        assert any(name.startswith(f"{topic}-0/") for name in cut) == (kept == 0)
        broker.launch()
        await cluster.wait_until_ready()
        assert await end_of(settings, topic) == kept
    finally:
        await cluster.stop()
