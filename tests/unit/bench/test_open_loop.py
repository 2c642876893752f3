"""The open loop: requests start on a clock, whatever the responses do; wrong ones are noticed."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.errors import WrongResultError
from bench.load import Address, post
from bench.open_loop_driver import Connections, Load, OpenLoop
from tobogganing.devstack.certificate import self_signed

RATE = 100


@dataclass
class SlowServer:
    """Responds to each request after a delay."""

    delay: float = 0.1
    status: int = 200
    arrived: list[float] = field(default_factory=list)
    connections: int = 0
    resumed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (tls := writer.get_extra_info("ssl_object")) is not None:
            self.resumed += tls.session_reused
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.arrived.append(asyncio.get_running_loop().time())
                await asyncio.sleep(self.delay)
                body = b'{"status":"metrics_received","receipt":"%d"}' % len(self.arrived)
                line = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (self.status, len(body))
                writer.write(line + body)
        writer.close()


@pytest.fixture
def server() -> SlowServer:
    return SlowServer()


@dataclass
class Subject:
    """The target of the loop: the slow server."""

    where: Address
    sent: int = 0
    bodies: list[bytes] = field(default_factory=list)

    def address(self, edge: bool) -> Address:
        return self.where

    def request(self, number: int) -> bytes:
        return post("/", b"%d" % number)

    def responded(self, number: int, status: int, body: bytes) -> None:
        if status != 200:
            raise WrongResultError(f"a submission was answered {status}")
        self.bodies.append(body)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "server.pem"
    file.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    return file


@contextlib.asynccontextmanager
async def serving(server: SlowServer, certificate: Path | None = None) -> AsyncIterator[Subject]:
    """Run the server, with TLS if there is a certificate."""
    tls = trusts = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        trusts = ssl.create_default_context(cafile=str(certificate))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    yield Subject(Address("127.0.0.1", listening.sockets[0].getsockname()[1], trusts))
    listening.close()


@pytest.mark.parametrize("connections", ["kept", "new"])
async def test_requests_start_on_a_clock(server: SlowServer, connections: Connections) -> None:
    async with serving(server) as subject:
        loop = OpenLoop(subject, Load(RATE, connections))
        assert await loop.run(0.5) == RATE // 2
    assert subject.sent == len(loop.seconds) == len(server.arrived) == RATE // 2
    # A closed loop over one connection would take 5 s.
    assert 0.4 < server.arrived[-1] - server.arrived[0] < 3
    assert min(loop.seconds) >= server.delay * 0.9
    if connections == "new":
        assert server.connections == RATE // 2
    else:
        assert server.connections < RATE // 2


@pytest.mark.parametrize("connections", ["kept", "new", "resumed"])
async def test_connections_with_tls(
    server: SlowServer, connections: Connections, certificate: Path
) -> None:
    server.delay = 0.01
    async with serving(server, certificate) as subject:
        loop = OpenLoop(subject, Load(20, connections, edge=True))
        await loop.run(1)
        assert len(subject.bodies) == 20
        assert (server.connections == 20) is (connections != "kept")
    assert (server.resumed > 10) is (connections == "resumed")


async def test_a_response_that_is_not_200_ends_the_measurement(server: SlowServer) -> None:
    server.status = 503
    async with serving(server) as subject:
        with pytest.raises(WrongResultError, match="503"):
            await OpenLoop(subject, Load(RATE)).run(0.5)
