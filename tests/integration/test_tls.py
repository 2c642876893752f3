"""Gateway and exporter that speak HTTPS themselves, as processes, with both HTTP stacks' limits."""

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from service.config.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.devstack.certificate import self_signed


class HttpsService(Service):
    """A service whose certificate is in a file."""

    def __init__(self, module: str, kafka: KafkaSettings, folder: Path, **extra: str) -> None:
        self.certificate = folder / "server.pem"
        super().__init__(module, kafka, folder, TLS_CERTIFICATE=str(self.certificate), **extra)
        self.url = self.url.replace("http:", "https:")

    async def __aenter__(self) -> "HttpsService":
        await super().__aenter__()
        await self.http.aclose()
        # The certificate changes during this time; the served one is compared below.
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, verify=False)
        return self

    def served_until(self) -> datetime:
        """The end of the certificate that a new connection gets."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def _write(file: Path, age: timedelta) -> datetime:
    """Replace the certificate by one of another age; return its end."""
    pem = self_signed(datetime.now(UTC) - age)
    part = file.with_suffix(".part")
    part.write_text(pem)
    part.replace(file)
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


@pytest.mark.parametrize("workers", ["", " --workers 2"], ids=["one", "two-workers"])
async def test_a_gateway_uses_a_new_certificate_without_a_restart(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, workers: str
) -> None:
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    first = _write(tmp_path / "server.pem", timedelta())
    module = f"tobogganing gateway{workers}"
    async with HttpsService(module, kafka_settings, tmp_path, **secrets) as gateway:
        await gateway.wait_until_ready()
        assert gateway.served_until() == first
        added = await gateway.http.post(
            "/api/v1/clients/register",
            json={"client_id": "a", "name": "A", "type": "native"},
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        key = {"authorization": f"Bearer {added.json()['api_key']}"}
        body = {"headless": False, "metrics": {"bytes_sent": 1}}

        async def submits() -> int:
            answer = await gateway.http.post("/api/v1/clients/a/metrics", json=body, headers=key)
            return answer.status_code

        assert await submits() == 200
        # Invalid HTTP gets a response, and the connection is closed properly.
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.port, ssl=ssl._create_unverified_context()
        )
        writer.write(b"rubbish\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400")
        writer.close()

        second = _write(tmp_path / "server.pem", timedelta(days=1))
        assert second != first
        async with asyncio.timeout(60):
            seen = 0  # by each worker
            while seen < 10:
                seen = seen + 1 if await asyncio.to_thread(gateway.served_until) == second else 0
                await asyncio.sleep(0.05)
        assert await submits() == 200, "connections that exist continue"

        (tmp_path / "server.pem").write_text("rubbish")
        async with asyncio.timeout(60):
            while "TLS certificate not used" not in gateway.log():  # noqa: ASYNC110 (a file)
                await asyncio.sleep(0.05)
        assert gateway.served_until() == second
        assert await submits() == 200
        assert await gateway.end(patience=30) == 0  # TLS waits for the other side, up to its limit


async def test_an_exporter_serves_a_scrape(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    _write(tmp_path / "server.pem", timedelta())
    async with HttpsService("exporter", kafka_settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        page = await exporter.scrape(**{"accept-encoding": "gzip"})
        assert page.status_code == 200
        assert "tobogganing_" in page.text
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as plain:
            plain.sendall(b"GET /-/healthy HTTP/1.1\r\nhost: a\r\n\r\n")
            plain.settimeout(20)
            received = b""
            with contextlib.suppress(ConnectionError):
                received = plain.recv(100)
            assert not received.startswith(b"HTTP"), "no plain HTTP on this port"


async def test_files_that_are_no_pair_are_named(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text(self_signed(datetime.now(UTC)))
    _write(tmp_path / "server.pem", timedelta())
    exporter = HttpsService("exporter", kafka_settings, tmp_path, TLS_KEY=str(tmp_path / "key.pem"))
    async with exporter:
        assert await exporter.ended(60) == 2
        assert f"TLS_KEY={tmp_path}/key.pem does not belong to TLS_CERTIFICATE=" in exporter.log()
