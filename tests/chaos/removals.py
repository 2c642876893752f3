"""Removals: entities that are removed while they report and a worker is killed."""

import asyncio

from tests.chaos.fleet import Agent
from tests.chaos.member import holding
from tests.chaos.stage import Stage

REMOVED = 8
PAUSE = 0.2


async def entities_removed(stage: Stage) -> None:
    """Some clients are removed, and others registered in their place."""
    plain = [a for a in stage.fleet.agents if a.kind == "client" and not (a.relayed or a.sampler)]
    chosen = stage.chance.sample(plain, REMOVED)
    # From its removal on, the credential of a client is refused.
    stage.load.allowed |= {401}
    worker = stage.chance.choice(stage.installation.workers)
    async with holding(worker.member):
        await asyncio.gather(*(_remove(stage, agent) for agent in chosen), worker.member.restart())
    for _ in chosen:
        await stage.fleet.add_client(stage.installation.gateways[0].url)


async def _remove(stage: Stage, agent: Agent) -> None:
    while True:
        stage.model.remove(agent.key)
        url = stage.chance.choice(stage.installation.gateways).url
        if await stage.fleet.remove(url, agent):
            break
        await asyncio.sleep(PAUSE)
    stage.fleet.agents.remove(agent)
    stage.model.removed(agent.key)
