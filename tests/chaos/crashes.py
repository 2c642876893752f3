"""Ends of processes: kill -9 and SIGTERM, one by one and in a row, and workers that come and go."""

import asyncio
import signal

from tests.chaos.installation import Service
from tests.chaos.member import holding
from tests.chaos.stage import Fault, Stage

STAY = (2.0, 4.0)
"""Seconds that a worker stays: at least and at most."""


def ends(kind: str, how: signal.Signals) -> Fault:
    """One service of a kind ends, and is started again at once."""

    async def fault(stage: Stage) -> None:
        services: list[Service] = getattr(stage.installation, kind)
        member = stage.chance.choice(services).member
        async with holding(member):
            await member.restart(how)

    return fault


def rolls(*kinds: str) -> Fault:
    """Every service of some kinds is restarted, the next when the one before is ready."""

    async def fault(stage: Stage) -> None:
        for kind in kinds:
            for service in getattr(stage.installation, kind):
                async with holding(service.member):
                    await service.member.restart(signal.SIGTERM)
                    await stage.installation.until_ready(service)

    return fault


async def worker_joins_and_leaves(stage: Stage) -> None:
    """A third worker gets partitions, and goes: in order, or killed."""
    installation = stage.installation
    worker = installation.add("processor", 3)
    installation.workers.remove(worker)  # other faults do not choose it
    keeping = installation.keep(worker.member)
    await installation.until_ready(worker)
    await asyncio.sleep(stage.chance.uniform(*STAY))
    await worker.member.down(stage.chance.choice([signal.SIGTERM, signal.SIGKILL]))
    keeping.cancel()


async def worker_and_leader(stage: Stage) -> None:
    """A worker and the leader of a partition are killed together."""
    leader = await stage.installation.some_leader(stage.chance)
    worker = stage.chance.choice(stage.installation.workers)
    async with holding(leader, worker.member):
        await asyncio.gather(leader.restart(), worker.member.restart())
