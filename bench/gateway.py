"""The gateway as a target, directly and behind the edge proxy.

The gateway has one core; Kafka and the load generator share the other one.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from bench.edge import running_edge
from bench.errors import WrongResultError
from bench.fleet import Clients, Fleet, Headends, register
from bench.load import Address
from bench.pipeline import MeasuredPipeline, MeasuredService
from bench.processes import cores
from bench.rounds import MeasuredTarget
from bench.workloads import Acknowledged, BatchWorkload, SingleWorkload, request_heads
from service.config.settings import KafkaSettings
from tobogganing.devstack.ports import LOOPBACK

SYSTEM = "Tobogganing gateway"
EDGE_SYSTEM = "Tobogganing edge and gateway"
FRESH = "a new connection for each"


@dataclass(frozen=True)
class MeasuredGateway:
    """A running gateway, and the fleet registered with it."""

    service: MeasuredService
    kafka: KafkaSettings
    clients: Clients
    headends: Headends
    relay_key: str
    acknowledged: Acknowledged
    pids: dict[str, int]

    def target(
        self,
        case: str,
        fleet: Fleet,
        connections: int,
        system: str = SYSTEM,
        address: Address | None = None,
        **options: Any,
    ) -> MeasuredTarget:
        """Submissions of `fleet`, one a request; `address` and `pids` may be a proxy's."""
        heads = request_heads(fleet)
        return MeasuredTarget(
            system,
            case,
            address or Address(LOOPBACK, self.service.port),
            options.pop("pids", self.pids),
            lambda count: SingleWorkload(self.acknowledged, fleet, count, heads),
            connections,
            **options,
        )

    def singles(self) -> list[MeasuredTarget]:
        """One submission a request."""
        topics = f"{self.kafka.kafka_partitions} partitions"
        targets = [
            self.target(f"{number} connections, API keys, {topics}", self.clients, number)
            for number in (32, 256)
        ]
        if self.headends.size:
            case = f"{FRESH}, API keys, {topics}"
            targets += [
                self.target(f"32 connections, JWTs, {topics}", self.headends, 32),
                self.target(case, self.clients, 32, fresh=True, share=0.3),
            ]
        return targets

    def batches(self, connections: int = 4) -> MeasuredTarget:
        """A relay's batches."""
        return MeasuredTarget(
            SYSTEM,
            f"{connections} connections",
            Address(LOOPBACK, self.service.port),
            self.pids,
            lambda count: BatchWorkload(self.acknowledged, self.clients, count, self.relay_key),
            connections,
        )


@contextlib.asynccontextmanager
async def gateway(
    pipeline: MeasuredPipeline, partitions: int, clients: int, headends: int, **environ: str
) -> AsyncIterator[MeasuredGateway]:
    """Run a gateway with its own topics on the servers' core; `environ` adds settings."""
    kafka = await pipeline.topics(partitions)
    fleet = Clients(clients)
    await register(kafka, fleet.records())
    if headends:
        await register(kafka, Headends(headends).records())
    async with pipeline.service("gateway", kafka, core=cores()[0], **environ) as service:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as http:
            nodes = Headends(headends)
            tokens = [await _token(http, nodes, number) for number in range(headends)]
            relay_key = await register_relay(http, pipeline)
            await _require_refusal(http, fleet)
        yield MeasuredGateway(
            service,
            kafka,
            fleet,
            Headends(headends, tuple(tokens)),
            relay_key,
            Acknowledged(kafka),
            service.pids | pipeline.broker,
        )


async def _token(http: httpx.AsyncClient, headends: Headends, number: int) -> str:
    node = {"node_id": headends.id(number), "node_type": "headend"}
    body = node | {"api_key": headends.api_key(number)}
    return str((await _post(http, "/api/v1/auth/token", body))["access_token"])


async def register_relay(http: httpx.AsyncClient, pipeline: MeasuredPipeline) -> str:
    """Register a relay that may submit for all entities; return its API key."""
    body, admin = {"name": "bench", "scope": "all"}, pipeline.secrets.bearer("ADMIN_TOKEN")
    return str((await _post(http, "/api/v1/relays/register", body, admin))["api_key"])


async def _post(
    http: httpx.AsyncClient, path: str, body: dict[str, str], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    response = await http.post(path, json=body, headers=headers)
    if response.status_code != 200:
        raise WrongResultError(f"{path}: {response.status_code} {response.text}")
    found: dict[str, Any] = response.json()
    return found


async def _require_refusal(http: httpx.AsyncClient, clients: Clients) -> None:
    """Check that the gateway verifies keys: one that does not would be faster."""
    headers = {"authorization": f"Bearer {clients.credential(1)}"}
    response = await http.post(clients.path(0), json={"metrics": {}}, headers=headers)
    if clients.size > 1 and response.status_code != 401:
        raise WrongResultError(f"another client's key got {response.status_code}")


@contextlib.asynccontextmanager
async def edge(
    gateway: MeasuredGateway, pipeline: MeasuredPipeline
) -> AsyncIterator[list[MeasuredTarget]]:
    """Run the edge (HAProxy) with TLS in front of a gateway; yields its targets.

    Raises:
        LocalError: HAProxy could not be downloaded.
    """
    async with running_edge(pipeline.folder, gateway.service.port) as before:
        address, pid = before
        pids = {"HAProxy": pid} | gateway.pids
        target = partial(gateway.target, system=EDGE_SYSTEM, address=address, pids=pids)
        yield [
            target("TLS, 32 connections, API keys", gateway.clients, 32),
            target(f"TLS, {FRESH}, API keys", gateway.clients, 32, fresh=True, share=0.1),
        ]
