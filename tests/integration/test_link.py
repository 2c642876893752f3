"""The producer while a broker is frozen."""

import asyncio
import contextlib
import gc
import os
import signal
from typing import Any

import pytest
from prometheus_client import Counter

from gateway.produce.producer import ResilientProducer, SendError
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.processes import freeze
from tobogganing.devstack.cluster import Cluster


async def until_sent(producer: ResilientProducer, topic: str) -> None:
    """Send until Kafka confirms: a new topic may take longer than the test's timeout."""
    async with asyncio.timeout(30):
        while True:
            await producer.wait_until_ready()
            with contextlib.suppress(SendError):
                await producer.send(topic, b"before", partition=0)
                return


async def test_an_abandoned_producer_logs_no_errors(
    own_kafka: Cluster, own_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "service.kafka.clients._request_timeout_ms", 300
    )  # so that retries come soon
    said: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        said.append(f"{context['message']}: {context.get('exception')!r}")

    failures = Counter("failures", "Failures", registry=None)
    links = [ResilientProducer(own_settings, failures) for _ in range(12)]
    running = [asyncio.create_task(producer.run()) for producer in links]
    process = own_kafka.brokers[0].process
    assert process is not None
    try:
        await ensure_topics(own_settings)
        topic = topics_from(own_settings).submissions.name
        await asyncio.gather(*(until_sent(producer, topic) for producer in links))
        freeze(process.pid)
        asyncio.get_running_loop().set_exception_handler(note)
        for number, producer in enumerate(links):
            producer.send_timeout = 0.05 + 0.1 * number
            producer.retire_timeout = producer.stop_timeout = 0.05
        sent = [producer.send(topic, b"lost", partition=0) for producer in links for _ in range(2)]
        results = await asyncio.gather(*sent, return_exceptions=True)
        assert {type(result) for result in results} == {SendError}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        gc.collect()
        await asyncio.sleep(0)
        assert said == []
    finally:
        os.kill(process.pid, signal.SIGCONT)
