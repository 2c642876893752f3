"""A broker's clock is ahead for a while: no entity expires early, no check-in stays in
the future."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contract.entity import entity_key
from contract.frame import encode_frame
from contract.row import EntityRow, decode_entity_row
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import ensure_topics, topics_from
from tests import debian
from tests.integration.frames import client
from tests.integration.workers import NEVER_LATE, Found, a_worker, running, settled
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install

AHEAD = 3_600
RETENTION = 0.1
"""Hours; less than the clock's error."""


class FakedInstall(Install):
    """Kafka whose clock is ahead by the offset in the file `offset`."""

    offset: Path
    library: Path

    def command(self, *flags: str) -> list[str]:
        faked = {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # otherwise a JVM's waits do not end
        }
        return ["/usr/bin/env", *(f"{k}={v}" for k, v in faked.items()), *super().command(*flags)]


@pytest.fixture
def offset(tmp_path: Path) -> Path:
    file = tmp_path / "offset"
    file.write_text("+0")
    return file


@pytest.fixture
async def settings(
    kafka_install: Install, tmp_path: Path, offset: Path
) -> AsyncIterator[KafkaSettings]:
    (folder,) = await asyncio.to_thread(debian.unpacked, "libfaketime")
    install = FakedInstall(kafka_install.java, kafka_install.jars, kafka_install.archive)
    object.__setattr__(install, "offset", offset)
    object.__setattr__(install, "library", next(folder.rglob("libfaketime.so.1")))
    cluster = Cluster(tmp_path / "kafka", install)
    await cluster.start()
    settings = KafkaSettings(kafka_bootstrap_servers=cluster.bootstrap_servers, kafka_partitions=1)
    await ensure_topics(settings)
    try:
        yield settings
    finally:
        await cluster.stop()


async def row_of(settings: KafkaSettings, id: str) -> EntityRow:
    await settled(settings)
    return decode_entity_row((await Found.of(settings)).rows[entity_key("client", id)])


async def test_a_broker_clock_that_is_ahead_for_a_while_does_no_harm(
    settings: KafkaSettings, offset: Path, tmp_path: Path
) -> None:
    topic = topics_from(settings).submissions.name

    async def report(id: str, timestamp: float | None = None) -> float:
        """Submit; return the broker clock's error at that time."""
        frame = encode_frame(NEVER_LATE, [client(id, timestamp=timestamp, bytes_sent=1)])
        appended = await producer.send_and_wait(topic, frame, partition=0)
        return float(appended.timestamp) / 1000 - time.time()

    worker = a_worker(settings, "w1", tmp_path, RETENTION_HOURS=str(RETENTION))
    async with AIOKafkaProducer(**client_options(settings)) as producer, running(worker):
        assert await report("silent") < 60
        await report("agent")
        await settled(settings)

        await asyncio.to_thread(offset.write_text, f"+{AHEAD}")
        async with asyncio.timeout(20):
            while await report("talking") < AHEAD - 60:
                await pause()
        await report("agent")
        assert (await row_of(settings, "talking")).last_check_in > time.time() + AHEAD - 60
        async with asyncio.timeout(20):  # expiry runs have seen it
            while worker.log().count("broker's clock is ahead") < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await row_of(settings, "silent")

        await asyncio.to_thread(offset.write_text, "+0")
        async with asyncio.timeout(20):
            while await report("talking") > 60:
                await pause()
        talking = await row_of(settings, "talking")
        assert talking.last_check_in < time.time() + 60
        assert talking.last_appended_ms / 1000 < time.time() + 60
        said = time.time()
        await report("agent", timestamp=said)
        assert (await row_of(settings, "agent")).last_check_in == said
        await row_of(settings, "silent")
    assert worker.faults() == []
