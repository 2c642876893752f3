"""Registers a simulated fleet."""

import asyncio
import secrets
from collections.abc import Sequence

from tobogganing.api_client.session import ManagerApi
from tobogganing.fleet_import.bulk_register import BulkRegistration, ImportReport
from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.pending_keys import PendingKeys
from tobogganing.simulator.simulated_fleet import Agent, SimulatedCluster, SimulatedFleet

CONNECTIONS = 4
ATTEMPTS = 10
"""Ids that are tried for an agent."""


class FleetRegistrationError(Exception):
    """The fleet could not be registered; the text has the response."""


class FleetRegistration:
    """Registers a fleet concurrently; setting `stop` ends it early."""

    def __init__(self, url: str, admin_token: str, stop: asyncio.Event) -> None:
        self.api_keys: dict[Agent, str] = {}
        """The keys of the registered agents."""
        self._url = url
        self._admin_token = admin_token
        self._stop = stop
        self._agents: dict[str, Agent] = {}

    async def run(self, fleet: SimulatedFleet) -> None:
        """Register everything. An agent whose id is registered already gets another one.

        Raises:
            FleetRegistrationError: the gateway refused an entity, or did not respond.
        """
        await self._register(fleet.clusters)  # an earlier run may have registered them
        left: list[Agent] = [*fleet.headends, *fleet.clients]
        originals, token = {agent: agent.id for agent in left}, secrets.token_hex(3)
        for attempt in range(ATTEMPTS):
            self._agents = {agent.registration().key: agent for agent in left}
            # The key of a registered id is unknown, so its agent needs another one.
            left = [self._agents[key] for key in await self._register(left)]
            if not left or self._stop.is_set():
                return
            for agent in left:
                agent.id = f"{originals[agent]}-{token}-{attempt}"
        raise FleetRegistrationError(f"{originals[left[0]]} is registered already")

    def write(self, entry: FleetEntry, api_key: str) -> None:
        """Keep a key."""
        self.api_keys[self._agents[entry.key]] = api_key

    async def _register(self, entities: Sequence[Agent | SimulatedCluster]) -> list[str]:
        """Register entities once; return the keys of those that may have been registered before."""
        report = ImportReport(len(entities))
        entries = enumerate(entity.registration() for entity in entities)
        async with ManagerApi(self._url, CONNECTIONS) as api:
            keys = PendingKeys(None)
            registration = BulkRegistration(
                api, self._admin_token, self, keys, (), report, lambda _: None, self._stop
            )
            await registration.run(entries, CONNECTIONS)
        if report.fault or report.refused:
            raise FleetRegistrationError(report.fault or report.refused[0].fault)
        return report.already_registered + report.unconfirmed
