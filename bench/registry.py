"""A gateway that knows a whole fleet: how much memory, and how long until it is ready.

    python -m bench.registry [--clients 1000000]

starts a broker, registers the clients (as records, since over HTTP it would take minutes), starts a
gateway, and checks that it takes the keys of the first, the last and one in between, and no other.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer

from contract.registry import RECORD_VERSION, RegistryRecord, encode_record, hash_api_key
from service.kafka import client_options, ensure_topics, topics_of
from service.settings import KafkaSettings
from tobogganing.local.cluster import Cluster
from tobogganing.local.install import install_kafka
from tobogganing.local.ports import free_ports
from tobogganing.local.secrets import provide_secrets

BATCH_BYTES = 900_000
PATIENCE = 300.0


def clients(count: int) -> Iterator[RegistryRecord]:
    types = ("native", "docker", "mobile")
    for number in range(count):
        yield RegistryRecord(
            version=RECORD_VERSION,
            kind="client",
            id=f"client-{number:016x}",
            revision=1,
            name=f"Laptop of employee {number}",
            attributes={"type": types[number % 3]},
            api_keys=[hash_api_key(key_of(number))],
        )


def key_of(number: int) -> str:
    return f"key-{number}"


async def register(settings: KafkaSettings, count: int) -> None:
    """Write the registrations as a gateway would have, in large batches."""
    topic = topics_of(settings).registry.name
    options = client_options(settings) | {"request_timeout_ms": 30_000}
    producer = AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES, enable_idempotence=True)
    await producer.start()
    try:
        batch = producer.create_batch()
        for record in clients(count):
            value, key = encode_record(record), record.key
            if batch.append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the process has no VmRSS")


async def check(http: httpx.AsyncClient, count: int) -> None:
    """Fail unless it takes the right keys only."""
    for number in {0, count // 2, count - 1}:
        path = f"/api/v1/clients/client-{number:016x}/metrics"
        for key, expected in ((key_of(number), 200), (key_of(number + 1), 401)):
            answer = await http.post(
                path, json={"metrics": {}}, headers={"authorization": f"Bearer {key}"}
            )
            if answer.status_code != expected:
                raise SystemExit(f"client {number}: {answer.status_code}, expected {expected}")


async def measure(count: int, folder: Path) -> dict[str, float]:
    cluster = Cluster(folder / "kafka", install_kafka())
    await cluster.start()
    try:
        settings = KafkaSettings(
            kafka_bootstrap_servers=cluster.bootstrap_servers, kafka_topic_prefix="bench."
        )
        await ensure_topics(settings)
        await register(settings, count)
        port = free_ports(1)[0]
        sources = provide_secrets(folder / "secrets", {})
        secrets = {f"{source.name}_FILE": str(source.file) for source in sources}
        environ = (
            os.environ
            | secrets
            | {
                "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
                "KAFKA_TOPIC_PREFIX": "bench.",
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "LOG_LEVEL": "WARNING",
            }
        )
        began = time.monotonic()
        gateway = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=environ)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await until_ready(http, began)
                ready = time.monotonic() - began
                await check(http, count)
                return {
                    "clients": count,
                    "ready_seconds": round(ready, 2),
                    "resident_megabytes": round(resident_megabytes(gateway.pid), 1),
                }
        finally:
            gateway.terminate()
            await gateway.wait()
    finally:
        await cluster.stop()


async def until_ready(http: httpx.AsyncClient, began: float) -> None:
    while time.monotonic() - began < PATIENCE:
        try:
            if (await http.get("/-/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise SystemExit(f"the gateway was not ready after {PATIENCE:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1_000_000)
    count = parser.parse_args().clients
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(count, Path(folder)))))


if __name__ == "__main__":
    main()
