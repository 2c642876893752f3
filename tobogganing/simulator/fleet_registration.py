"""Registers a simulated fleet."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from service.tasks import first_error
from tobogganing.api_client.session import ApiResponse, ManagerApi, ManagerUnreachableError
from tobogganing.backoff import backoff, stopped_before
from tobogganing.simulator.simulated_fleet import Agent, Body, SimulatedCluster, SimulatedFleet
from tobogganing.simulator.stats import EXPECTED

CONCURRENCY = 64
ATTEMPTS = 12

T = TypeVar("T")


class FleetRegistrationError(Exception):
    """The fleet could not be registered; the text has the response."""


class FleetRegistration:
    """Registers a fleet concurrently; setting `stop` ends it early."""

    def __init__(self, api: ManagerApi, admin_token: str, stop: asyncio.Event) -> None:
        self.api_keys: dict[Agent, str] = {}
        """The keys of the registered agents."""
        self._api = api
        self._admin_token = admin_token
        self._stop = stop
        self._suffix = "-" + secrets.token_hex(3)

    async def run(self, fleet: SimulatedFleet) -> None:
        """Register everything. An agent whose id is registered gets another one.

        Raises:
            FleetRegistrationError: a response was not 200, 409, 429 or 503.
        """
        with first_error(FleetRegistrationError):
            await self._each(fleet.clusters, self._add_cluster)
            agents: list[Agent] = [*fleet.headends, *fleet.clients]
            await self._each(agents, self._add_agent)

    async def _each(self, things: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
        left = iter(things)

        async def work() -> None:
            for thing in left:
                if self._stop.is_set():
                    return
                await do(thing)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(CONCURRENCY, len(things))):
                tasks.create_task(work())

    async def _add_cluster(self, cluster: SimulatedCluster) -> None:
        # 409 is fine: an earlier run has registered it.
        await self._post("/api/v1/clusters/register", cluster.registration())

    async def _add_agent(self, agent: Agent) -> None:
        # The key of an id that is registered already is unknown: take another id.
        original = agent.id
        for suffix in ("", self._suffix, *(f"{self._suffix}-{n}" for n in range(2, 10))):
            agent.id = original + suffix
            response = await self._post(f"/api/v1/{agent.kind}s/register", agent.registration())
            if response is None:
                return
            if response.status == 200:
                self.api_keys[agent] = str(response.body["api_key"])
                return
        raise FleetRegistrationError(f"{original} is registered already, with every suffix")

    async def _post(self, path: str, body: Body) -> ApiResponse | None:
        """Register one entity; the response is 200 or 409, or None after a stop."""
        last: object = None
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            try:
                response = await self._api.request("POST", path, self._admin_token, body=body)
            except ManagerUnreachableError as error:
                last = error
            else:
                if response.status in (200, 409):
                    return response
                if response.status not in EXPECTED:
                    raise FleetRegistrationError(f"{path} responded {response}")
                last, retry_after = response, response.retry_after
            if await stopped_before(self._stop, time.monotonic() + backoff(attempt, retry_after)):
                return None
        raise FleetRegistrationError(f"{path} failed {ATTEMPTS} times, last with: {last}")
