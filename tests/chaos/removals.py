"""Removals: entities that are removed while they report and a worker is killed."""

import asyncio

from tests.chaos.context import ChaosContext
from tests.chaos.fleet import ChaosAgent
from tests.chaos.supervised_process import holding

REMOVED = 8
PAUSE = 0.2


async def entities_removed(context: ChaosContext) -> None:
    """Remove some clients and register others in their place."""
    plain = [a for a in context.fleet.agents if a.kind == "client" and not (a.relayed or a.sampler)]
    chosen = context.rng.sample(plain, REMOVED)
    # After its removal, a client's credential is rejected.
    context.load.allowed |= {401}
    worker = context.rng.choice(context.installation.workers)
    async with holding(worker.member):
        await asyncio.gather(
            *(_remove(context, agent) for agent in chosen), worker.member.restart()
        )
    for _ in chosen:
        await context.fleet.add_client(context.installation.gateways[0].url)


async def _remove(context: ChaosContext, agent: ChaosAgent) -> None:
    while True:
        context.model.remove(agent.key)
        url = context.rng.choice(context.installation.gateways).url
        if await context.fleet.remove(url, agent):
            break
        await asyncio.sleep(PAUSE)
    context.fleet.agents.remove(agent)
    context.model.removed(agent.key)
