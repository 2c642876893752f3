"""The edge proxy with its own file: HAProxy before small HTTP servers that say who they are."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.deploy import program_log, programs
from tests.deploy.compose import ROOT
from tests.deploy.dns import NameServer
from tests.deploy.stack import POLL
from tobogganing.devstack import process
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import free_ports

CONFIG = ROOT / "deploy" / "edge" / "haproxy.cfg"
PATIENCE = 30


@dataclass
class Backend:
    """A service that answers its own name; `status` is what its readiness says."""

    name: str
    host: str
    status: int = 200
    forwarded: str = ""
    server: asyncio.Server | None = field(default=None, repr=False)

    async def start(self, port: int) -> None:
        self.server = await asyncio.start_server(self._serve, self.host, port)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            path = head.split()[1]
            status = self.status if path == "/-/ready" else 200
            if "x-forwarded-for" in head:
                self.forwarded = head.split("x-forwarded-for: ")[1].split("\r\n")[0]
            body = self.name.encode()
            start = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            writer.write(start.encode() + b"\r\n" + body)
            await writer.drain()
        writer.close()


class Edge:
    """A running edge with two gateways and two exporters."""

    def __init__(self, names: NameServer) -> None:
        self.names = names
        self.port, self.tls_port, own, self.gateway_port, self.exporter_port = free_ports(5)
        self.own = f"127.0.0.1:{own}"
        net = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self.backends = {
            name: Backend(name, f"{net}.{n + 10}")
            for n, name in enumerate(("gateway-1", "gateway-2", "exporter-1", "exporter-2"))
        }

    def announce(self, *copies: str) -> None:
        """Let the name server know these copies and no others."""
        for name in ("gateway", "exporter"):
            hosts = [self.backends[copy].host for copy in copies if copy.startswith(name)]
            self.names.addresses[name] = hosts

    def backend_port(self, copy: str) -> int:
        return self.gateway_port if copy.startswith("gateway") else self.exporter_port

    def environ(self, certificate: Path) -> dict[str, str]:
        return {
            "EDGE_DNS": self.names.address,
            "EDGE_HTTP": f"127.0.0.1:{self.port}",
            "EDGE_HTTPS": f"127.0.0.1:{self.tls_port}",
            "EDGE_OWN": self.own,
            "EDGE_CERTIFICATE": str(certificate),
            "GATEWAY_PORT": str(self.gateway_port),
            "EXPORTER_PORT": str(self.exporter_port),
        }

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            return await http.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    async def who(self, path: str) -> str:
        return (await self.get(path)).text

    async def until(self, path: str, condition: Callable[[set[str]], bool]) -> set[str]:
        """Who answered eight requests in a row, once that is as it should be."""
        answered: set[str] = set()
        try:
            async with asyncio.timeout(PATIENCE):
                while not (answered and condition(answered)):
                    await asyncio.sleep(POLL)
                    answered = {await self.who(path) for _ in range(8)}
        except TimeoutError:
            raise AssertionError(f"{path} is answered by {answered}") from None
        return answered


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    certificate = tmp_path / "edge.pem"
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    haproxy = programs.haproxy()
    async with NameServer() as names:
        edge = Edge(names)
        for name, backend in edge.backends.items():
            await backend.start(edge.backend_port(name))
        edge.announce(*edge.backends)
        program_log.note("haproxy")
        with (tmp_path / "haproxy.log").open("wb") as log:
            child = process.start(
                [haproxy.path, "-W", "-db", "-f", CONFIG],
                environ=haproxy.environ | edge.environ(certificate),
                output=log,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                while not await open_port(edge.port):
                    assert child.poll() is None, (tmp_path / "haproxy.log").read_text()
                    await asyncio.sleep(POLL)
            await edge.until("/api", lambda who: who <= GATEWAYS)
            await edge.until("/metrics", lambda who: who < EXPORTERS)
            yield edge
        finally:
            await process.stop(child, 5)
            for backend in edge.backends.values():
                await backend.stop()


async def open_port(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


GATEWAYS = {"gateway-1", "gateway-2"}
EXPORTERS = {"exporter-1", "exporter-2"}


async def test_submissions_go_to_all_gateways(edge: Edge) -> None:
    for path in ("/api/v1/clients/c1/metrics", "/api/v1/openapi.json", "/-/ready"):
        assert await edge.until(path, lambda who: who == GATEWAYS)


CHECKINS = (
    "/checkins",
    "/checkins/clients/c1",
    "/api/v1/checkins?state=late",
    "/api/v1/checkins/x",
)


async def test_what_is_read_comes_from_one_exporter(edge: Edge) -> None:
    (primary,) = await edge.until("/metrics", lambda who: len(who) == 1)
    assert primary.startswith("exporter")
    for path in (
        "/metrics?after=1-2-3",
        *CHECKINS,
        "/metrics/fleet",
        "/api/v1/receipts/1-2-3",
        "/api/v1/ledger",
        "/",
    ):
        assert {await edge.who(path) for _ in range(20)} == {primary}, path


@pytest.mark.parametrize("failure", ["not ready", "gone"])
async def test_another_exporter_stands_in(edge: Edge, failure: str) -> None:
    (primary,) = await edge.until("/metrics", lambda who: len(who) == 1)
    backend = edge.backends[primary]
    if failure == "gone":
        await backend.stop()
    backend.status = 503
    await edge.until("/metrics", lambda who: who == EXPORTERS - {primary})


async def test_without_a_ready_one_the_living_answer(edge: Edge) -> None:
    for backend in edge.backends.values():
        backend.status = 503
    async with asyncio.timeout(PATIENCE):
        while (await edge.get("/-/ready")).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
    assert await edge.until("/api/v1/clients/c1/metrics", lambda who: who <= GATEWAYS)
    assert await edge.until("/metrics", lambda who: len(who) == 1)


async def test_without_anybody_the_answer_says_when_to_come_again(edge: Edge) -> None:
    edge.announce()
    async with asyncio.timeout(PATIENCE):
        while (  # noqa: ASYNC110
            answer := await edge.get("/api/v1/clients/c1/metrics")
        ).status_code == 200:
            await asyncio.sleep(POLL)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "error" in json.loads(answer.text)


async def test_scaling_needs_no_restart(edge: Edge) -> None:
    edge.announce("gateway-2", "exporter-2")
    await edge.until("/api", lambda who: who == {"gateway-2"})
    await edge.until("/metrics", lambda who: who == {"exporter-2"})
    edge.announce(*edge.backends)
    await edge.until("/api", lambda who: who == GATEWAYS)


async def test_tls_and_http_2(edge: Edge, tmp_path: Path) -> None:
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--noproxy", "*", "--cacert", str(tmp_path / "edge.pem")),
        *("-w", " %{http_version}", f"https://localhost:{edge.tls_port}/metrics"),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await curl.communicate()
    assert curl.returncode == 0
    assert said.decode() in ("exporter-1 2", "exporter-2 2")


async def test_a_client_cannot_pretend_another_address(edge: Edge) -> None:
    who = (await edge.get("/api", **{"x-forwarded-for": "10.1.1.1"})).text
    assert edge.backends[who].forwarded == "127.0.0.1"


@pytest.mark.parametrize("path", ["/%6detrics", "//metrics", "/x/../metrics", "/METRICS"])
async def test_another_spelling_of_a_path_is_a_gateways(edge: Edge, path: str) -> None:
    """A gateway compares paths as they are sent, too (service.http.connection.protocol): there
    they are 404."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.endswith((b"gateway-1", b"gateway-2")), answer


async def test_own_metrics_are_for_inside(edge: Edge) -> None:
    assert (await edge.get("/-/metrics")).status_code == 404
    async with httpx.AsyncClient(trust_env=False) as http:
        own = await http.get(f"http://{edge.own}/metrics")
    assert 'haproxy_server_status{proxy="gateways"' in own.text
