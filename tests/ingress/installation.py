"""Two gateways and an exporter behind the proxy of an ingress controller."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from service.config.settings import KafkaSettings
from tests.ingress.rules import Site
from tests.ingress.running import Ports, controller_settings, ingress, production_with
from tests.integration.gateways import gateway
from tests.integration.processes import CA_PEM, Service
from tobogganing.devstack.certificate import certificates_in, self_signed

PROXY = "127.0.0.1"
"""The address from which the proxy connects; clients have others."""
CLIENT = "127.0.0.77"
CLIENT_CERTIFICATES = "client-certificates"
"""The component."""


@dataclass
class Installation:
    gateways: list[Service]
    exporter: Service
    ports: Ports
    folder: Path

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "edge.pem")

    def client(self, address: str = CLIENT) -> httpx.AsyncClient:
        """Return a client that has this address."""
        transport = httpx.AsyncHTTPTransport(verify=self.tls(), local_address=address)
        url = f"https://localhost:{self.ports.https}"
        return httpx.AsyncClient(base_url=url, transport=transport, timeout=30)

    async def raw(self, data: bytes, patience: float = 5.0) -> bytes:
        """Send bytes on a new connection; return what arrives until its end, or for a while."""
        reader, writer = await asyncio.open_connection(
            PROXY, self.ports.https, ssl=self.tls(), server_hostname="localhost"
        )
        received = b""
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(patience):
                while part := await reader.read(65536):
                    received += part
        writer.transport.abort()
        return received


@contextlib.asynccontextmanager
async def installation(
    controller: str, settings: KafkaSettings, folder: Path, signing_keys: str
) -> AsyncIterator[Installation]:
    """Run it with client certificates until the context ends."""
    (folder / "edge.pem").write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    (folder / "ca.pem").write_text(certificates_in(CA_PEM), encoding="ascii")
    manifests = await asyncio.to_thread(production_with, controller, folder, CLIENT_CERTIFICATES)
    (config,) = (
        one["data"]
        for one in manifests.every("ConfigMap")
        if one["metadata"]["name"].startswith("settings-")
    )
    assert config["MTLS"] == "on"
    extra = {
        "MTLS": config["MTLS"],
        "TRUSTED_PROXIES": PROXY,
        "AUTH_FAILURES_PER_MINUTE": "60",
    }
    async with contextlib.AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(gateway(settings, folder, signing_keys, **extra))
            for _ in range(2)
        ]
        exporter = await stack.enter_async_context(
            Service("exporter", settings, folder, TRUSTED_PROXIES=PROXY)
        )
        for service in (*gateways, exporter):
            await service.wait_until_ready()
        site = Site(
            manifests,
            controller_settings(controller, CLIENT_CERTIFICATES),
            {"gateway": [one.port for one in gateways], "exporter": [exporter.port]},
            folder / "edge.pem",
            folder / "ca.pem",
        )
        ports = await stack.enter_async_context(ingress(controller, site, folder))
        yield Installation(gateways, exporter, ports, folder)
