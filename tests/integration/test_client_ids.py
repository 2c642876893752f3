"""What brokers see: every Kafka client says which service or command it belongs to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.command_line import CommandLine
from tests.integration.kafka_proxy import KafkaProxy, ProxiedCluster
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.devstack.install import Install


@pytest.fixture
async def proxied(kafka_install: Install, tmp_path: Path) -> AsyncIterator[ProxiedCluster]:
    proxied = ProxiedCluster(tmp_path / "kafka", kafka_install)
    await proxied.cluster.start()
    yield proxied
    await proxied.cluster.stop()


async def test_every_client_has_the_name_of_its_service(
    proxied: ProxiedCluster, topic_prefix: str, tmp_path: Path, signing_keys: str
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=proxied.servers, kafka_topic_prefix=topic_prefix
    )
    host, proxy = socket.gethostname(), KafkaProxy(proxied.near, proxied.far)
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    async with (
        proxy.running(),
        Service("gateway", settings, tmp_path, **secrets) as gateway,
        Service("exporter", settings, tmp_path) as exporter,
        Service("processor", settings, tmp_path, WORKER_NAME="w-7") as processor,
    ):
        await asyncio.gather(*(each.wait_until_ready() for each in (gateway, exporter, processor)))
        command = CommandLine(
            gateway.url,
            KAFKA_BOOTSTRAP_SERVERS=proxied.servers,
            KAFKA_TOPIC_PREFIX=topic_prefix,
        )
        await command.good("dead-letters", "list")
        assert proxy.clients == {
            f"tobogganing-gateway-{host}-{gateway.port}",
            f"tobogganing-exporter-{host}-{exporter.port}",
            "tobogganing-processor-w-7",
            "tobogganing-processor-w-7-consumer",
            f"tobogganing-dead-letters-list-{host}",
        }
