"""Clients that offer an upgrade with every plain HTTP request: JDK HttpClient and curl."""

import asyncio
import json
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.debian import unpacked
from tests.integration.gateways import gateway
from tests.integration.processes import ADMIN_TOKEN, Service

# Recorded from JDK 17's HttpClient: a POST with a body.
JDK_HEAD = (
    "POST {path} HTTP/1.1\r\n"
    "Connection: Upgrade, HTTP2-Settings\r\n"
    "Content-Length: {length}\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    "Upgrade: h2c\r\n"
    "User-Agent: Java-http-client/17.0.21.1\r\n"
    "Authorization: Bearer {token}\r\n"
    "Content-Type: {content_type}\r\n"
    "\r\n"
)
ITEM = {"kind": "client", "id": "c", "metrics": {"bytes_sent": 2}}
JAVA = Path(__file__).with_name("Client.java")


async def _as_jdk(
    service: Service, path: str, token: str, body: str, kind: str = "application/json"
) -> dict[str, object]:
    """Send header and body in two packets, as the JDK does; require 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = JDK_HEAD.format(
        path=path, length=len(body), port=service.port, token=token, content_type=kind
    )
    async with asyncio.timeout(10):
        for part in (head, body):
            writer.write(part.encode())
            await writer.drain()
            await asyncio.sleep(0.01)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer + content
    result: dict[str, object] = json.loads(content)
    return result


async def test_a_recorded_jdk_request_is_parsed(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    async with gateway(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        client = json.dumps({"client_id": "c", "name": "c", "type": "native"})
        made = await _as_jdk(service, "/api/v1/clients/register", ADMIN_TOKEN, client)
        sample = json.dumps({"metrics": {"bytes_sent": 1}})
        key = str(made["api_key"])
        assert "receipt" in await _as_jdk(service, "/api/v1/clients/c/metrics", key, sample)
        relay = json.dumps({"name": "r", "scope": "all"})
        made = await _as_jdk(service, "/api/v1/relays/register", ADMIN_TOKEN, relay)
        lines = json.dumps(ITEM) + "\n"
        answer = await _as_jdk(
            service, "/api/v1/metrics", str(made["api_key"]), lines, "application/x-ndjson"
        )
        assert answer["accepted"] == 1, answer


async def _run(*command: str | Path, stdin: bytes = b"") -> bytes:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaint = await child.communicate(stdin)
    assert child.returncode == 0, said + complaint
    return said


async def _curl(service: Service, path: str, token: str, body: object, *more: str) -> object:
    said = await _run(
        *("curl", "-sS", "--fail-with-body", "--http2", "--noproxy", "*", "--data-binary", "@-"),
        *("-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {token}"),
        *(*more, service.url + path),
        stdin=json.dumps(body).encode(),
    )
    return json.loads(said)


@pytest.mark.parametrize(
    "more", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"]
)
async def test_curl_with_an_http_2_upgrade(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, more: list[str]
) -> None:
    async with gateway(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()

        async def curl(path: str, token: str, body: object) -> dict[str, object]:
            answer = await _curl(service, path, token, body, *more)
            assert isinstance(answer, dict)
            return answer

        client = {"client_id": "c", "name": "c", "type": "native"}
        made = await curl("/api/v1/clients/register", ADMIN_TOKEN, client)
        sample = {"metrics": {"bytes_sent": 1}}
        assert "receipt" in await curl("/api/v1/clients/c/metrics", str(made["api_key"]), sample)
        relay = {"name": "r", "scope": "all"}
        made = await curl("/api/v1/relays/register", ADMIN_TOKEN, relay)
        answer = await curl("/api/v1/metrics", str(made["api_key"]), [ITEM])
        assert answer["accepted"] == 1, answer


@pytest.mark.long
async def test_the_real_jdk_client(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """Registers, submits and sends a batch, five times on one connection."""
    java = unpacked("openjdk-17-jre-headless", "openjdk-17-jdk-headless")[0]
    home = java / "usr/lib/jvm/java-17-openjdk-amd64"
    async with gateway(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        said = await _run(home / "bin/java", JAVA, service.url, ADMIN_TOKEN)
        assert said.count(b"200") == 5 * 4
