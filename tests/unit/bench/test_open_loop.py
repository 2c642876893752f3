"""The open loop: requests start on a clock, whatever the responses do; wrong ones are noticed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.open_loop import Load, OpenLoop
from bench.workloads import request_heads

RATE = 100


@dataclass
class SlowServer:
    """Answers each request after a while."""

    delay: float = 0.1
    status: int = 200
    arrived: list[float] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
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


@contextlib.asynccontextmanager
async def serving(server: SlowServer) -> AsyncIterator[Any]:
    """What the loop needs of a stack."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    clients = Clients(10)
    yield SimpleNamespace(
        services={"gateway": SimpleNamespace(port=port)},
        heads=request_heads(clients) * 200,
        clients=clients,
        sent=0,
        receipts=set(),
    )
    listening.close()


@pytest.mark.parametrize("fresh", [False, True])
async def test_requests_start_on_a_clock(server: SlowServer, fresh: bool) -> None:
    async with serving(server) as stack:
        loop = OpenLoop(stack, Load(RATE, fresh))
        assert await loop.run(0.5) == RATE // 2
    assert stack.sent == len(loop.seconds) == len(server.arrived) == RATE // 2
    # A closed loop over one connection would take 5 s.
    assert 0.4 < server.arrived[-1] - server.arrived[0] < 3
    assert min(loop.seconds) >= server.delay * 0.9
    if fresh:
        assert server.connections == RATE // 2
    else:
        assert server.connections < RATE // 2


async def test_a_response_that_is_not_200_ends_the_measurement(server: SlowServer) -> None:
    server.status = 503
    async with serving(server) as stack:
        with pytest.raises(WrongResultError, match="503"):
            await OpenLoop(stack, Load(RATE)).run(0.5)
