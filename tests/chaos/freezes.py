"""Freezes: processes that stand still (SIGSTOP) and wake without knowing of it."""

import asyncio

from tests.chaos.load import REST
from tests.chaos.member import Member, holding
from tests.chaos.stage import Stage

LONG = 30.0
SESSION = (9.0, 16.0)
"""Seconds: around the end of a broker's session and of a request."""
GATEWAY = 10.0
"""Seconds that a gateway stands still: longer than its deadline."""


async def worker_frozen(stage: Stage) -> None:
    await _freeze(stage.chance.choice(stage.installation.workers).member, _seconds(stage))


async def broker_frozen(stage: Stage) -> None:
    await _freeze(await stage.installation.some_leader(stage.chance), _seconds(stage))


def _seconds(stage: Stage) -> float:
    """In a pair about as long as sessions are: what has just been given up comes back."""
    return stage.chance.uniform(*SESSION) if stage.is_paired else LONG


async def exporter_frozen(stage: Stage) -> None:
    await _freeze(stage.chance.choice(stage.installation.exporters).member, GATEWAY)


async def gateway_frozen(stage: Stage) -> None:
    """What it had sent arrives late; what it had not read is read, and begins, when it wakes."""
    stage.load.rest = REST + GATEWAY
    await _freeze(stage.chance.choice(stage.installation.gateways).member, GATEWAY)


async def _freeze(member: Member, seconds: float) -> None:
    async with holding(member):
        member.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            member.thaw()
