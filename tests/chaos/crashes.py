"""Process crashes and restarts: kill -9, SIGTERM, rolling restarts, workers that join and leave."""

import asyncio
import signal

from tests.chaos.context import ChaosContext, Fault
from tests.chaos.installation import ChaosService
from tests.chaos.supervised_process import holding

STAY = (2.0, 4.0)
"""Seconds that a worker stays: minimum and maximum."""


def ends(kind: str, how: signal.Signals) -> Fault:
    """Return a fault that ends one service of a kind, which is restarted at once."""

    async def fault(context: ChaosContext) -> None:
        services: list[ChaosService] = getattr(context.installation, kind)
        member = context.rng.choice(services).member
        async with holding(member):
            await member.restart(how)

    return fault


def rolls(*kinds: str) -> Fault:
    """Return a fault that restarts every service of some kinds, each when the previous is ready."""

    async def fault(context: ChaosContext) -> None:
        for kind in kinds:
            for service in getattr(context.installation, kind):
                async with holding(service.member):
                    await service.member.restart(signal.SIGTERM)
                    await context.installation.until_ready(service)

    return fault


async def worker_joins_and_leaves(context: ChaosContext) -> None:
    """A third worker joins and leaves, normally or killed."""
    installation = context.installation
    worker = installation.add("processor", 3)
    installation.workers.remove(worker)  # other faults do not select it
    keeping = installation.keep(worker.member)
    await installation.until_ready(worker)
    await asyncio.sleep(context.rng.uniform(*STAY))
    await worker.member.down(context.rng.choice([signal.SIGTERM, signal.SIGKILL]))
    keeping.cancel()


async def worker_and_leader(context: ChaosContext) -> None:
    """Kill a worker and the leader of a partition together."""
    leader = await context.installation.some_leader(context.rng)
    worker = context.rng.choice(context.installation.workers)
    async with holding(leader, worker.member):
        await asyncio.gather(leader.restart(), worker.member.restart())
