"""Freezes: processes that stand still (SIGSTOP) and wake without knowing of it."""

import asyncio

from tests.chaos.load import REST
from tests.chaos.member import Member
from tests.chaos.stage import Stage

LONG = 30.0
GATEWAY = 10.0
"""Seconds that a gateway stands still: longer than its deadline."""


async def worker_frozen(stage: Stage) -> None:
    await _freeze(stage.chance.choice(stage.installation.workers).member, LONG)


async def broker_frozen(stage: Stage) -> None:
    await _freeze(await stage.installation.some_leader(stage.chance), LONG)


async def exporter_frozen(stage: Stage) -> None:
    await _freeze(stage.chance.choice(stage.installation.exporters).member, GATEWAY)


async def gateway_frozen(stage: Stage) -> None:
    """What it had sent arrives late; what it had not read is read, and begins, when it wakes."""
    stage.load.rest = REST + GATEWAY
    await _freeze(stage.chance.choice(stage.installation.gateways).member, GATEWAY)


async def _freeze(member: Member, seconds: float) -> None:
    member.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        member.thaw()
