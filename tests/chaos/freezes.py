"""Freezes: processes that stand still (SIGSTOP) and wake without knowing of it."""

import asyncio

from tests.chaos.context import ChaosContext
from tests.chaos.load import REST
from tests.chaos.supervised_process import SupervisedProcess, holding

LONG = 30.0
SESSION = (9.0, 16.0)
"""Seconds: around the end of a broker's session and of a request."""
GATEWAY = 10.0
"""Seconds that a gateway stands still: longer than its deadline."""


async def worker_frozen(context: ChaosContext) -> None:
    await _freeze(context.chance.choice(context.installation.workers).member, _seconds(context))


async def broker_frozen(context: ChaosContext) -> None:
    await _freeze(await context.installation.some_leader(context.chance), _seconds(context))


def _seconds(context: ChaosContext) -> float:
    """In a pair about as long as sessions are: what has just been given up comes back."""
    return context.chance.uniform(*SESSION) if context.is_paired else LONG


async def exporter_frozen(context: ChaosContext) -> None:
    await _freeze(context.chance.choice(context.installation.exporters).member, GATEWAY)


async def gateway_frozen(context: ChaosContext) -> None:
    """What it had sent arrives late; what it had not read is read, and begins, when it wakes."""
    context.load.rest = REST + GATEWAY
    await _freeze(context.chance.choice(context.installation.gateways).member, GATEWAY)


async def _freeze(member: SupervisedProcess, seconds: float) -> None:
    async with holding(member):
        member.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            member.thaw()
