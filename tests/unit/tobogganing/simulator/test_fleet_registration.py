"""Registration of a simulated fleet, against a server with some ids registered already."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tobogganing.simulator.fleet_registration import FleetRegistration, FleetRegistrationError
from tobogganing.simulator.simulated_fleet import Agent, simulate_fleet


class Registry:
    """Registers each id once; the first request of all is refused with 503."""

    def __init__(self, *registered: str) -> None:
        self.ids = set(registered)
        self._requests = 0

    async def register(self, request: web.Request) -> web.Response:
        self._requests += 1
        if request.headers["Authorization"] != "Bearer admin":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if self._requests == 1:
            return web.json_response({"error": "busy"}, status=503)
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        results = [self._register_one(line) for line in lines]
        text = "".join(json.dumps(result) + "\n" for result in results)
        return web.Response(text=text, content_type="application/x-ndjson")

    def _register_one(self, line: dict[str, str]) -> dict[str, str]:
        if line["id"] in self.ids:
            return {"status": "exists"}
        self.ids.add(line["id"])
        return {"status": "registered", "api_key": f"key of {line['id']}"}

    def server(self) -> TestServer:
        app = web.Application()
        app.router.add_post("/api/v1/registrations", self.register)
        return TestServer(app)


async def test_registered_ids_are_replaced() -> None:
    fleet = simulate_fleet(3, 2, seed=1)
    registry = Registry("sim-client-000001", "sim-headend-0000", fleet.clusters[0].id)
    async with registry.server() as server:
        registration = FleetRegistration(str(server.make_url("/")), "admin", asyncio.Event())
        await registration.run(fleet)
    agents: list[Agent] = [*fleet.clients, *fleet.headends]
    assert registration.api_keys == {agent: f"key of {agent.id}" for agent in agents}
    assert fleet.clients[0].id == "sim-client-000000"
    assert fleet.clients[1].id.startswith("sim-client-000001-")
    assert fleet.headends[0].id.startswith("sim-headend-0000-")
    assert {agent.id for agent in agents} <= registry.ids


async def test_a_refusal_ends_the_registration() -> None:
    async with Registry().server() as server:
        registration = FleetRegistration(str(server.make_url("/")), "wrong", asyncio.Event())
        with pytest.raises(FleetRegistrationError, match="401"):
            await registration.run(simulate_fleet(3, 1, seed=1))
    assert registration.api_keys == {}
