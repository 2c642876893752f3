"""The edge proxy with its own file: HAProxy in front of small HTTP servers that respond with their
names.
"""

import asyncio
import contextlib
import json
import random
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bench.edge import running_edge
from tests.deploy import program_log, programs
from tests.deploy.compose import ROOT
from tests.deploy.dns import NameServer
from tests.deploy.stack import POLL
from tobogganing.devstack import process
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import free_ports
from tools.edge import edge_environ

CONFIG = ROOT / "deploy" / "edge" / "haproxy.cfg"
PATIENCE = 30


@dataclass
class Backend:
    """A service that responds with its own name; `status` is that of its readiness.

    `breaks` is the number of POST requests whose connection it closes without a response.
    """

    name: str
    host: str
    status: int = 200
    forwarded: str = ""
    breaks: int = 0
    posts: list[str] = field(default_factory=list)
    """The arrival times, by the edge, of the POST requests."""
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
            if head.startswith("post"):
                (length,) = re.findall(r"content-length: (\d+)", head)
                await reader.readexactly(int(length))
                self.posts += re.findall(r"x-request-start: (\S*)\r", head)
                if self.breaks:
                    self.breaks -= 1
                    writer.transport.abort()
                    return
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
        """Set the name server's addresses to exactly these servers."""
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
        async with httpx.AsyncClient(trust_env=False, timeout=10, verify=False) as http:
            return await http.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    async def who(self, path: str) -> str:
        return (await self.get(path)).text

    async def until(self, path: str, condition: Callable[[set[str]], bool]) -> set[str]:
        """Return the servers of eight requests in a row, once they are the expected ones."""
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
    they get 404."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.endswith((b"gateway-1", b"gateway-2")), answer


SINGLE = ["/api/v1/clients/c1/metrics", "/api/v1/headends/h-1/metrics"]
OTHERS = [
    "/api/v1/metrics",
    "/api/v1/clients",
    "/api/v1/clients/c1",
    "/api/v1/clients/c1/metrics/x",
]


async def post(
    edge: Edge, path: str, size: int = 300, headers: dict[str, str] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=False) as http:
        url = f"http://127.0.0.1:{edge.port}{path}"
        return await http.post(url, content=b"x" * size, headers=headers)


async def until_single_submissions_are_routed(edge: Edge) -> None:
    """Their backend has its own checks."""
    url = f"http://{edge.own}/metrics"
    up = re.compile(r'haproxy_server_status\{proxy="submissions",server="\w+",state="UP"\} 1')
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(PATIENCE):
        while len(up.findall((await http.get(url)).text)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(POLL)


def break_next_post(edge: Edge) -> list[Backend]:
    """Let the first gateway that gets a POST close the connection; return both."""
    found = [edge.backends[name] for name in sorted(GATEWAYS)]
    for backend in found:
        backend.posts.clear()
        backend.breaks = 1
    return found


@pytest.mark.parametrize("path", SINGLE)
async def test_a_submission_is_sent_again_to_another_gateway(edge: Edge, path: str) -> None:
    """The repeated request keeps its time of arrival."""
    await until_single_submissions_are_routed(edge)
    one, other = break_next_post(edge)
    one.breaks, other.breaks = 1, 0
    async with asyncio.timeout(PATIENCE):
        while not one.posts:
            answer = await post(edge, path)
            assert (answer.status_code, answer.text) == (200, "gateway-2")
    assert len(one.posts) == 1
    assert other.posts[-1] == one.posts[0]


@pytest.mark.parametrize("path", OTHERS)
async def test_other_requests_are_not_sent_again(edge: Edge, path: str) -> None:
    one, other = break_next_post(edge)
    assert (await post(edge, path)).status_code == 502
    assert len(one.posts) + len(other.posts) == 1


async def test_a_submission_that_the_edge_cannot_keep_is_not_sent_again(edge: Edge) -> None:
    await until_single_submissions_are_routed(edge)
    one, other = break_next_post(edge)
    assert (await post(edge, SINGLE[0], 8193)).status_code == 502
    assert len(one.posts) + len(other.posts) == 1


async def test_the_largest_kept_submission_is_sent_again(edge: Edge) -> None:
    """With a head of 4 KiB."""
    await until_single_submissions_are_routed(edge)
    one, other = break_next_post(edge)
    one.breaks, other.breaks = 1, 0
    while not one.posts:
        assert (
            await post(edge, SINGLE[0], 8192, headers={"cookie": "c" * 4096})
        ).status_code == 200


async def test_a_submission_whose_body_comes_after_its_head_is_sent_again(edge: Edge) -> None:
    await until_single_submissions_are_routed(edge)
    one, other = break_next_post(edge)
    one.breaks, other.breaks = 1, 0
    head = f"POST {SINGLE[0]} HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n"
    head += "Connection: close\r\nExpect: 100-continue\r\n\r\n"
    async with asyncio.timeout(PATIENCE):
        while not one.posts:
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"x" * 300)
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert answer.endswith(b"gateway-2"), answer


async def test_a_client_cannot_pretend_an_arrival(edge: Edge) -> None:
    before = time.time()
    for path in (SINGLE[0], OTHERS[0]):
        await post(edge, path, headers={"x-request-start": "t=1"})
    for arrived in [each for name in GATEWAYS for each in edge.backends[name].posts]:
        assert before - 0.01 <= int(arrived.removeprefix("t=")) / 1000 <= time.time()


async def handshake(
    edge: Edge, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLSocket:
    """A connection after one response, which delivers the tickets of a session."""

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", edge.tls_port), timeout=10)
        connection = context.wrap_socket(plain, server_hostname="localhost", session=session)
        connection.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        return connection

    return await asyncio.to_thread(connect)


async def test_tls_sessions_are_resumed(edge: Edge, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "edge.pem"))
    with await handshake(edge, context, None) as first:
        assert (first.version(), first.session_reused) == ("TLSv1.3", False)
        session = first.session
    with await handshake(edge, context, session) as second:
        assert second.session_reused


async def test_older_versions_of_tls_are_refused(edge: Edge, tmp_path: Path) -> None:
    """Older versions are refused unless EDGE_TLS_MIN allows them."""
    context = ssl.create_default_context(cafile=str(tmp_path / "edge.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await handshake(edge, context, None)


SHORTENED = 30
"""How many times shorter the timeouts of connections are in a test."""


async def test_connections_outlive_the_pause_between_two_reports(tmp_path: Path) -> None:
    """With the edge's own timeouts, shortened: HAProxy decides which one applies."""

    def shorten(match: re.Match[str]) -> str:
        return f"{match[1]} {int(match[2]) * 1000 // SHORTENED}ms"

    text, count = re.subn(
        r"(timeout (?:client|http-keep-alive)) (\d+)s", shorten, CONFIG.read_text()
    )
    assert count == 2
    config, certificate = tmp_path / "haproxy.cfg", tmp_path / "edge.pem"
    config.write_text(text)
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    haproxy = programs.haproxy()
    http, https, own = free_ports(3)
    environ = haproxy.environ | edge_environ(http, https, own, certificate)
    with (tmp_path / "log").open("wb") as log:
        child = process.start([haproxy.path, "-db", "-f", config], environ=environ, output=log)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await open_port(http):  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        reader, writer = await asyncio.open_connection("127.0.0.1", http)
        writer.write(b"GET /-/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        assert time.monotonic() - began > 80 / SHORTENED
        writer.close()
    finally:
        await process.stop(child, 5)


async def test_a_connection_without_a_request_is_not_logged(edge: Edge, tmp_path: Path) -> None:
    """Docker's health check opens one every 5 s; a request that is not HTTP is logged."""
    for sent in (b"", b"not HTTP\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await reader.read()
        writer.close()
    log = tmp_path / "haproxy.log"
    async with asyncio.timeout(PATIENCE):
        while "<BADREQ>" not in log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(POLL)
    assert log.read_text().count("<BADREQ>") == 1


async def test_own_metrics_are_for_inside(edge: Edge) -> None:
    assert (await edge.get("/-/metrics")).status_code == 404
    async with httpx.AsyncClient(trust_env=False) as http:
        own = await http.get(f"http://{edge.own}/metrics")
    assert 'haproxy_server_status{proxy="gateways"' in own.text


async def test_the_benchmark_sends_everything_to_a_peer_by_the_way_of_submissions(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    peer = Backend("peer", "127.0.0.1")
    await peer.start(port)
    try:
        async with (
            running_edge(tmp_path, port, is_peer=True) as edge,
            httpx.AsyncClient(trust_env=False, verify=edge.address.tls or False) as http,
        ):
            url = f"https://{edge.address.host}:{edge.address.port}"
            for path in ("/metrics/job/tobogganing", "/api/v1/import", "/v1/metrics"):
                assert (await http.post(url + path, content=b"x")).text == "peer"
        assert len(peer.posts) == 3
    finally:
        await peer.stop()
