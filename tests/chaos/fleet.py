"""The fleet that reports: who there is, with which credential, and what each report looks like."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from contract.frame import entity_key
from contract.kinds import CLIENT, KINDS
from tests.chaos.installation import ADMIN_TOKEN

CLIENTS, HEADENDS, RELAYED, SAMPLERS = 150, 20, 60, 30
AT_ONCE = 16
BEHIND = 60.0
"""Seconds by which a sampler's first report is late."""
OLD = 3_600.0
"""Seconds by which a sample is older than what was applied before it."""


@dataclass(eq=False)
class Agent:
    """One client or headend. `relayed`: a relay reports for it; `sampler`: it sends timestamps."""

    kind: str
    id: str
    relayed: bool = False
    sampler: bool = False
    credential: str = ""
    is_busy: bool = False
    rests_until: float = 0.0
    """Moment of the monotonic clock before which it sends nothing newer than what it has sent."""
    repeats: bool = False
    """What it sends next is what it has sent last."""
    newest_sample: float = 0.0

    @property
    def key(self) -> str:
        return entity_key(self.kind, self.id).decode()

    @property
    def path(self) -> str:
        return f"/api/v1/{KINDS[self.kind].collection}/{self.id}/metrics"

    def report(self, number: int, timestamp: float | None = None) -> dict[str, Any]:
        """The number in every metric."""
        metrics = {metric.field: number for metric in KINDS[self.kind].metrics}
        stamped = {} if timestamp is None else {"timestamp": timestamp}
        return {"metrics": metrics, **stamped}

    def next_sample_time(self) -> float:
        """A moment after that of its last sample, in the past."""
        self.newest_sample = (self.newest_sample or time.time() - BEHIND) + 0.001
        return self.newest_sample


@dataclass
class Fleet:
    """All agents, and the key of the relay that reports for some."""

    agents: list[Agent]
    relay_key: str


def _agents() -> Iterator[Agent]:
    for number in range(CLIENTS):
        yield Agent("client", f"c-{number}")
    for number in range(HEADENDS):
        yield Agent("headend", f"h-{number}")
    for number in range(RELAYED):
        yield Agent("client", f"r-{number}", relayed=True)
    for number in range(SAMPLERS):
        yield Agent("client", f"s-{number}", sampler=True)


async def enrol(http: aiohttp.ClientSession, url: str) -> Fleet:
    """Register everything at one gateway.

    Raises:
        AssertionError: it was not taken.
    """

    async def post(path: str, credential: str = ADMIN_TOKEN, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {credential}"}
        async with http.post(f"{url}/api/v1/{path}", json=body, headers=headers) as answer:
            content: dict[str, Any] = await answer.json()
            assert answer.status == 200, f"{path}: {answer.status} {content}"
            return content

    async def register(agent: Agent) -> None:
        if agent.kind == CLIENT.name:
            body = {"name": agent.id, "type": "native", "client_id": agent.id}
            agent.credential = (await post("clients/register", **body))["api_key"]
            return
        body = {"name": agent.id, "cluster_id": "k", "headend_id": agent.id}
        key = (await post("headends/register", **body))["api_key"]
        asked = {"node_id": agent.id, "node_type": "headend", "api_key": key}
        agent.credential = (await post("auth/token", credential="", **asked))["access_token"]

    await post("clusters/register", name="K", region="eu", datacenter="fra", cluster_id="k")
    relay = await post("relays/register", name="R", scope="all")
    agents = list(_agents())
    left = iter(agents)

    async def work() -> None:
        for agent in left:
            await register(agent)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return Fleet(agents, relay["api_key"])
