"""Broker outages."""

import asyncio
import re
import signal

import aiohttp

from tests.chaos.context import ChaosContext
from tests.chaos.installation import ANSWER_WITHIN, METRICS_TOKEN, ChaosService
from tests.chaos.supervised_process import SupervisedProcess, holding

DEADLINE = ANSWER_WITHIN + 1.0
"""Seconds after which no earlier submission can be acknowledged."""
OUTAGE = 4.0
"""Seconds that an outage lasts after that."""
_CONTACT = re.compile(r"^tobogganing_exporter_last_contact_seconds\{.*\} (\S+)$", re.M)


async def leader_killed(context: ChaosContext) -> None:
    leader = await context.installation.some_leader(context.rng)
    async with holding(leader):
        await leader.restart()


async def controller_killed(context: ChaosContext) -> None:
    controller = await context.installation.brokers.controller()
    async with holding(controller):
        await controller.restart()


async def brokers_roll(context: ChaosContext) -> None:
    """Restart every broker normally, each when all are in sync again."""
    for member in context.installation.brokers.members:
        async with holding(member):
            await member.restart(signal.SIGTERM)
        await context.installation.wait_until_ready()


async def two_brokers_down(context: ChaosContext) -> None:
    await _down(context, context.rng.sample(context.installation.brokers.members, 2))


async def all_brokers_down(context: ChaosContext) -> None:
    await _down(context, context.installation.brokers.members)


async def _down(context: ChaosContext, members: list[SupervisedProcess]) -> None:
    """Kill brokers and keep them down; no submission may be accepted during that time."""
    async with holding(*members):
        await _down_alone(context, members)


async def _down_alone(context: ChaosContext, members: list[SupervisedProcess]) -> None:
    await asyncio.gather(*(member.down() for member in members))
    try:
        await asyncio.sleep(DEADLINE)
        before = context.load.acknowledged
        await asyncio.sleep(OUTAGE)
        after = context.load.acknowledged
        ready = [
            s.member.name for s in context.installation.gateways if await _is_ready(context, s)
        ]
        ages = [await _age(exporter) for exporter in context.installation.exporters]
    finally:
        for member in members:
            member.up()
    assert after == before, f"{after - before} submissions were accepted without enough brokers"
    assert not ready, f"{ready} were ready without enough brokers"
    if len(members) == len(context.installation.brokers.members):
        assert min(ages) > OUTAGE, f"exporters report a response of Kafka {min(ages)} s ago"


async def _is_ready(context: ChaosContext, service: ChaosService) -> bool:
    return await context.installation.ready(service)


async def _age(exporter: ChaosService) -> float:
    """Return the seconds since Kafka's last response, as the exporter shows them."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(exporter.url + "/-/metrics") as answer,
    ):
        return max(map(float, _CONTACT.findall(await answer.text())))
