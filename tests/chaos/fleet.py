"""The simulated fleet: agents, their credentials, and their reports."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from contract.entity import entity_key
from contract.kinds import CLIENT, KINDS
from tests.chaos.installation import ADMIN_TOKEN

CLIENTS, HEADENDS, RELAYED, SAMPLERS = 150, 20, 60, 30
AT_ONCE = 16
CLUSTER = "k"
BEHIND = 60.0
"""Seconds by which a sampler's first report is late."""
OLD = 3_600.0
"""Seconds by which a sample is older than one applied before."""


@dataclass(eq=False)
class ChaosAgent:
    """One client or headend. `relayed`: a relay reports for it; `sampler`: it sends timestamps."""

    kind: str
    id: str
    relayed: bool = False
    sampler: bool = False
    credential: str = ""
    is_busy: bool = False
    rests_until: float = 0.0
    """Monotonic time before which it sends no new number."""
    repeats: bool = False
    """Whether it repeats its last submission next."""
    newest_sample: float = 0.0

    @property
    def key(self) -> str:
        return entity_key(self.kind, self.id).decode()

    @property
    def path(self) -> str:
        return f"/api/v1/{KINDS[self.kind].collection}/{self.id}/metrics"

    def report(self, number: int, timestamp: float | None = None) -> dict[str, Any]:
        """Return a report with the number in every metric."""
        metrics = {metric.field: number for metric in KINDS[self.kind].metrics}
        stamped = {} if timestamp is None else {"timestamp": timestamp}
        return {"metrics": metrics, **stamped}

    def next_sample_time(self) -> float:
        """Return a time after that of its last sample, in the past."""
        self.newest_sample = (self.newest_sample or time.time() - BEHIND) + 0.001
        return self.newest_sample


def _agents() -> Iterator[ChaosAgent]:
    for number in range(CLIENTS):
        yield ChaosAgent("client", f"c-{number}")
    for number in range(HEADENDS):
        yield ChaosAgent("headend", f"h-{number}")
    for number in range(RELAYED):
        yield ChaosAgent("client", f"r-{number}", relayed=True)
    for number in range(SAMPLERS):
        yield ChaosAgent("client", f"s-{number}", sampler=True)


class Fleet:
    """All agents, and the key of the relay that reports for some of them."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.agents: list[ChaosAgent] = []
        self.relay_key = ""
        self._http = http
        self._names = itertools.count(CLIENTS)

    async def enrol(self, url: str) -> None:
        """Register all agents at one gateway.

        Raises:
            AssertionError: a registration was rejected.
        """
        cluster = {"name": "K", "region": "eu", "datacenter": "fra", "cluster_id": CLUSTER}
        await self._post(url, "clusters/register", cluster)
        relay = await self._post(url, "relays/register", {"name": "R", "scope": "all"})
        self.relay_key = relay["api_key"]
        left = _agents()

        async def work() -> None:
            for agent in left:
                await self._register(url, agent)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def add_client(self, url: str) -> None:
        """Register one more client, which reports from then on."""
        await self._register(url, ChaosAgent("client", f"c-{next(self._names)}"))

    async def remove(self, url: str, agent: ChaosAgent) -> bool:
        """Request an agent's removal; return whether the gateway confirmed it."""
        path = f"{url}/api/v1/{KINDS[agent.kind].collection}/{agent.id}"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        try:
            async with self._http.delete(path, headers=headers) as answer:
                assert answer.status in (200, 503), f"{path}: {answer.status}"
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _register(self, url: str, agent: ChaosAgent) -> None:
        if agent.kind == CLIENT.name:
            body = {"name": agent.id, "type": "native", "client_id": agent.id}
            agent.credential = (await self._post(url, "clients/register", body))["api_key"]
        else:
            body = {"name": agent.id, "cluster_id": CLUSTER, "headend_id": agent.id}
            key = (await self._post(url, "headends/register", body))["api_key"]
            asked = {"node_id": agent.id, "node_type": agent.kind, "api_key": key}
            agent.credential = (await self._post(url, "auth/token", asked))["access_token"]
        self.agents.append(agent)

    async def _post(self, url: str, path: str, body: dict[str, str]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self._http.post(f"{url}/api/v1/{path}", json=body, headers=headers) as answer:
            content: dict[str, Any] = await answer.json()
            assert answer.status == 200, f"{path}: {answer.status} {content}"
            return content
