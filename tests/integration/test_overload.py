"""Overload: excess submissions are refused early and cheaply, and accepted ones are applied."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx

from service.config.settings import KafkaSettings
from tests.integration.gateways import gateway, in_time, registered, submit
from tests.integration.processes import freeze
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

ROOM = 20
TOO_MANY = 60
SECONDS = 3.0
"""Seconds of overload: until the measured rate has dropped by nearly half."""
SOON = 1.0
"""Seconds within which most refusals must arrive; the deadline is after nine."""
MAX_GROWTH = 16 * 2**20


async def test_excess_submissions_are_refused_at_once_and_accepted_ones_are_applied(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    limits = {"MAX_QUEUED_SUBMISSIONS": f"{ROOM}", "RATE_LIMIT_PER_MINUTE": "0"}
    broker = own_kafka.brokers[0].process
    assert broker is not None
    try:
        async with gateway(
            own_settings, tmp_path, signing_keys, ANSWER_WITHIN_SECONDS="9", **limits
        ) as service:
            await service.wait_until_ready()
            headers = await registered(service, "c")

            async def send(number: int) -> tuple[float, httpx.Response]:
                began = time.monotonic()
                answer = await submit(service, "c", headers, number)
                return time.monotonic() - began, answer

            for number in range(ROOM):  # the throughput is measured
                assert (await send(number))[1].status_code == 200
            freeze(broker.pid)
            taken = [asyncio.create_task(send(1_000 + number)) for number in range(ROOM)]
            waiting = f"tobogganing_gateway_waiting_submissions {ROOM}.0\n"
            async with asyncio.timeout(5):
                while waiting not in (await service.scrape()).text:
                    await pause(0.02)
            before = service.resident_bytes()
            refused: list[tuple[float, httpx.Response]] = []
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                refused += await asyncio.gather(*(send(9_999) for _ in range(TOO_MANY)))
            grown = service.resident_bytes() - before
            assert not any(each.done() for each in taken), (
                "submissions must be waiting all the time"
            )
            os.kill(broker.pid, signal.SIGCONT)
            answers = [answer for _, answer in await asyncio.gather(*taken)]
            counted = await in_time(own_settings)
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    assert len(refused) >= 3 * TOO_MANY
    assert {answer.status_code for _, answer in refused} == {503}
    assert sorted(seconds for seconds, _ in refused)[len(refused) // 2] < SOON
    waits = [int(answer.headers["retry-after"]) for _, answer in refused]
    assert waits[0] < waits[-1] <= 30, "Retry-After must follow the throughput"
    assert grown < MAX_GROWTH
    assert [answer.status_code for answer in answers] == [200] * ROOM
    assert counted == {*range(ROOM), *range(1_000, 1_000 + ROOM)}, (
        "no refused submission may be applied"
    )
