"""Freezes: processes that are stopped (SIGSTOP) and continued."""

import asyncio

from tests.chaos.context import ChaosContext
from tests.chaos.load import REST
from tests.chaos.supervised_process import SupervisedProcess, holding

LONG = 30.0
SESSION = (9.0, 16.0)
"""Seconds, around a broker's session timeout and a request timeout."""
GATEWAY = 10.0
"""Seconds that a gateway is frozen: longer than its deadline."""


async def worker_frozen(context: ChaosContext) -> None:
    await _freeze(context.rng.choice(context.installation.workers).member, _seconds(context))


async def broker_frozen(context: ChaosContext) -> None:
    await _freeze(await context.installation.some_leader(context.rng), _seconds(context))


def _seconds(context: ChaosContext) -> float:
    """Return a duration; in a pair it is close to a session, so that evicted members return."""
    return context.rng.uniform(*SESSION) if context.is_paired else LONG


async def exporter_frozen(context: ChaosContext) -> None:
    await _freeze(context.rng.choice(context.installation.exporters).member, GATEWAY)


async def gateway_frozen(context: ChaosContext) -> None:
    """Data that it had sent arrives late; requests that it had not read start when it continues."""
    context.load.rest = REST + GATEWAY
    await _freeze(context.rng.choice(context.installation.gateways).member, GATEWAY)


async def _freeze(member: SupervisedProcess, seconds: float) -> None:
    async with holding(member):
        member.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            member.thaw()
