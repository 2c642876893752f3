"""Outages of brokers."""

import asyncio
import re
import signal

import aiohttp

from tests.chaos.installation import ANSWER_WITHIN, METRICS_TOKEN, Service
from tests.chaos.member import Member, holding
from tests.chaos.stage import Stage

DEADLINE = ANSWER_WITHIN + 1.0
"""Seconds after which nothing that was sent before can be acknowledged."""
OUTAGE = 4.0
"""Seconds that an outage goes on after that."""
_CONTACT = re.compile(r"^tobogganing_exporter_last_contact_seconds\{.*\} (\S+)$", re.M)


async def leader_killed(stage: Stage) -> None:
    leader = await stage.installation.some_leader(stage.chance)
    async with holding(leader):
        await leader.restart()


async def controller_killed(stage: Stage) -> None:
    controller = await stage.installation.brokers.controller()
    async with holding(controller):
        await controller.restart()


async def brokers_roll(stage: Stage) -> None:
    """Every broker is restarted in order, the next when all are in sync again."""
    for member in stage.installation.brokers.members:
        async with holding(member):
            await member.restart(signal.SIGTERM)
        await stage.installation.whole()


async def two_brokers_down(stage: Stage) -> None:
    await _down(stage, stage.chance.sample(stage.installation.brokers.members, 2))


async def all_brokers_down(stage: Stage) -> None:
    await _down(stage, stage.installation.brokers.members)


async def _down(stage: Stage, members: list[Member]) -> None:
    """Kill brokers and keep them down: nothing may be accepted meanwhile."""
    async with holding(*members):
        await _down_alone(stage, members)


async def _down_alone(stage: Stage, members: list[Member]) -> None:
    await asyncio.gather(*(member.down() for member in members))
    try:
        await asyncio.sleep(DEADLINE)
        before = stage.load.acknowledged
        await asyncio.sleep(OUTAGE)
        after = stage.load.acknowledged
        ready = [s.member.name for s in stage.installation.gateways if await _is_ready(stage, s)]
        ages = [await _age(exporter) for exporter in stage.installation.exporters]
    finally:
        for member in members:
            member.up()
    assert after == before, f"{after - before} submissions were accepted without enough brokers"
    assert not ready, f"{ready} were ready without enough brokers"
    if len(members) == len(stage.installation.brokers.members):
        assert min(ages) > OUTAGE, f"exporters say they heard of Kafka {min(ages)} s ago"


async def _is_ready(stage: Stage, service: Service) -> bool:
    return await stage.installation.ready(service)


async def _age(exporter: Service) -> float:
    """Seconds since an exporter has last heard of Kafka, as it shows it."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(exporter.url + "/-/metrics") as answer,
    ):
        return max(map(float, _CONTACT.findall(await answer.text())))
