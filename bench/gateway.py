"""The gateway under load: submissions one by one and in batches, beside other systems.

    python -m bench.gateway [--quick]

The gateway has a core for itself; Kafka shares the other one with the load generator.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from bench.errors import WrongResultError
from bench.fleet import Clients, Headends, register
from bench.load import Address
from bench.pipeline import MeasuredPipeline, MeasuredService
from bench.processes import cores
from bench.rounds import MeasuredTarget
from bench.workloads import Acknowledged, BatchWorkload, SingleWorkload, request_heads
from service.config.settings import KafkaSettings
from tobogganing.devstack.ports import LOOPBACK

SYSTEM = "Tobogganing gateway"


@dataclass(frozen=True)
class MeasuredGateway:
    """A gateway under test, and whom it knows."""

    service: MeasuredService
    kafka: KafkaSettings
    clients: Clients
    headends: Headends
    relay_key: str
    acknowledged: Acknowledged


@contextlib.asynccontextmanager
async def gateway(
    pipeline: MeasuredPipeline, partitions: int, clients: int, headends: int, **environ: str
) -> AsyncIterator[MeasuredGateway]:
    """Run a gateway with topics of its own on the servers' core; `environ` adds settings."""
    kafka = await pipeline.topics(partitions)
    fleet = Clients(clients)
    await register(kafka, fleet.records())
    if headends:
        await register(kafka, Headends(headends).records())
    async with pipeline.service("gateway", kafka, core=cores()[0], **environ) as service:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as http:
            tokens = [await _token(http, Headends(headends), each) for each in range(headends)]
            relay_key = await register_relay(http, pipeline)
            await refuse(http, fleet)
        nodes = Headends(headends, tuple(tokens))
        yield MeasuredGateway(service, kafka, fleet, nodes, relay_key, Acknowledged(kafka))


async def _token(http: httpx.AsyncClient, headends: Headends, number: int) -> str:
    answer = await http.post(
        "/api/v1/auth/token",
        json={
            "node_id": headends.id(number),
            "node_type": "headend",
            "api_key": headends.api_key(number),
        },
    )
    if answer.status_code != 200:
        raise WrongResultError(f"no token: {answer.status_code} {answer.text}")
    return str(answer.json()["access_token"])


async def register_relay(http: httpx.AsyncClient, pipeline: MeasuredPipeline) -> str:
    """Register a relay for everybody; return its API key."""
    answer = await http.post(
        "/api/v1/relays/register",
        json={"name": "bench", "scope": "all"},
        headers=pipeline.secrets.bearer("ADMIN_TOKEN"),
    )
    if answer.status_code != 200:
        raise WrongResultError(f"no relay: {answer.status_code} {answer.text}")
    return str(answer.json()["api_key"])


async def refuse(http: httpx.AsyncClient, fleet: Clients) -> None:
    """See to it that keys are checked: a gateway that takes anything would be fast.

    Raises:
        WrongResultError: a client's key was taken for another client.
    """
    headers = {"authorization": f"Bearer {fleet.credential(1)}"}
    answer = await http.post(fleet.path(0), json={"metrics": {}}, headers=headers)
    if fleet.size > 1 and answer.status_code != 401:
        raise WrongResultError(f"another client's key was answered {answer.status_code}")


def singles(gateway: MeasuredGateway, pipeline: MeasuredPipeline) -> list[MeasuredTarget]:
    """One submission a request."""
    clients, headends = gateway.clients, gateway.headends
    partitions = gateway.kafka.kafka_partitions
    where = f"{partitions} partitions"
    key_heads, token_heads = request_heads(clients), request_heads(headends)
    address = Address(LOOPBACK, gateway.service.port)
    pids = gateway.service.pids | pipeline.broker

    def with_key(count: int) -> SingleWorkload:
        return SingleWorkload(gateway.acknowledged, clients, count, key_heads)

    def with_token(count: int) -> SingleWorkload:
        return SingleWorkload(gateway.acknowledged, headends, count, token_heads)

    targets = [
        MeasuredTarget(
            SYSTEM, f"{number} connections, API keys, {where}", address, pids, with_key, number
        )
        for number in (32, 256)
    ]
    if headends.size:
        targets.append(
            MeasuredTarget(SYSTEM, f"32 connections, JWTs, {where}", address, pids, with_token, 32)
        )
        targets.append(
            MeasuredTarget(
                SYSTEM,
                f"a new connection for each, API keys, {where}",
                address,
                pids,
                with_key,
                32,
                fresh=True,
                share=0.3,
            )
        )
    return targets


def batches(gateway: MeasuredGateway, pipeline: MeasuredPipeline) -> list[MeasuredTarget]:
    """Batches of a relay."""
    pids = gateway.service.pids | pipeline.broker

    def work(count: int) -> BatchWorkload:
        return BatchWorkload(gateway.acknowledged, gateway.clients, count, gateway.relay_key)

    address = Address(LOOPBACK, gateway.service.port)
    return [
        MeasuredTarget(SYSTEM, f"{number} connections", address, pids, work, number)
        for number in (4,)
    ]
