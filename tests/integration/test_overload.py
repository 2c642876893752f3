"""Overload: what is too much is refused early and cheaply, and what was taken stays good."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx

from service.config.settings import KafkaSettings
from tests.integration.processes import freeze
from tests.integration.test_gateway import gateway, in_time, registered, submit
from tobogganing.devstack.cluster import Cluster

ROOM = 20
TOO_MANY = 60
SECONDS = 3.0
"""For so long too many submit: until the rate that was measured is down by nearly half."""
SOON = 1.0
"""Seconds in which a refusal must come, most often; the deadline is at nine."""
MAX_GROWTH = 16 * 2**20


async def test_what_is_too_much_is_refused_at_once_and_what_was_taken_counts(
    own_kafka: Cluster, topic_prefix: str, tmp_path: Path, signing_keys: str
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=own_kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )
    limits = {"MAX_QUEUED_SUBMISSIONS": f"{ROOM}", "RATE_LIMIT_PER_MINUTE": "0"}
    broker = own_kafka.brokers[0].process
    assert broker is not None
    try:
        async with gateway(
            settings, tmp_path, signing_keys, ANSWER_WITHIN_SECONDS="9", **limits
        ) as service:
            await service.wait_until_ready()
            headers = await registered(service, "c")

            async def send(number: int) -> tuple[float, httpx.Response]:
                began = time.monotonic()
                answer = await submit(service, "c", headers, number)
                return time.monotonic() - began, answer

            for number in range(ROOM):  # what Kafka takes is measured
                assert (await send(number))[1].status_code == 200
            freeze(broker.pid)
            taken = [asyncio.create_task(send(1_000 + number)) for number in range(ROOM)]
            waiting = f"tobogganing_gateway_waiting_submissions {ROOM}.0\n"
            async with asyncio.timeout(5):
                while waiting not in (await service.scrape()).text:
                    pass
            before = service.resident_bytes()
            refused: list[tuple[float, httpx.Response]] = []
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                refused += await asyncio.gather(*(send(9_999) for _ in range(TOO_MANY)))
            grown = service.resident_bytes() - before
            assert not any(each.done() for each in taken), "they were to wait all the time"
            os.kill(broker.pid, signal.SIGCONT)
            answers = [answer for _, answer in await asyncio.gather(*taken)]
            counted = await in_time(settings)
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    assert len(refused) >= 3 * TOO_MANY
    assert {answer.status_code for _, answer in refused} == {503}
    assert sorted(seconds for seconds, _ in refused)[len(refused) // 2] < SOON
    waits = [int(answer.headers["retry-after"]) for _, answer in refused]
    assert waits[0] < waits[-1] <= 30, "it follows the rate at which Kafka takes what waits"
    assert grown < MAX_GROWTH
    assert [answer.status_code for answer in answers] == [200] * ROOM
    assert counted == {*range(ROOM), *range(1_000, 1_000 + ROOM)}, "nothing that was refused"
