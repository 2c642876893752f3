"""The connection of a fleet import, against servers with valid and invalid responses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tobogganing.api_client.session import ManagerUnreachableError, NotConnectedError
from tobogganing.devstack.ports import free_ports
from tobogganing.errors import LocalError
from tobogganing.fleet_import import connection
from tobogganing.fleet_import.connection import HttpTarget, KeepAliveConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b'{"n":"v" }'
CHUNKED = (
    b"HTTP/1.1 503 x\r\nretry-after: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
)


class StatusServer:
    """Responds with the next of `answers`; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                for byte in range(0, len(answer), 5):  # in small pieces
                    writer.write(answer[byte : byte + 5])
                    await writer.drain()


@contextlib.asynccontextmanager
async def connected(server: StatusServer) -> AsyncIterator[KeepAliveConnection]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    asking = KeepAliveConnection(HttpTarget.parse(f"http://127.0.0.1:{port}/base/"), "token")
    async with listening:
        try:
            yield asking
        finally:
            asking.close()


async def test_one_connection_sends_many_requests() -> None:
    server = StatusServer(OK, CHUNKED, OK)
    async with connected(server) as asking:
        first = await asking.post("/api/v1/x", b'{"a":1}')
        second = await asking.post("/api/v1/y", b"{}")
        third = await asking.post("/api/v1/z", b"{}")
    assert (first.status, first.body, first.retry_after) == (200, {"n": "v"}, 0.0)
    assert (second.status, second.body, second.retry_after) == (503, {"a": 1}, 7.0)
    assert third.retry_after == 0.0
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /base/api/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer token\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')


async def test_a_closed_connection_is_replaced() -> None:
    server = StatusServer(
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), OK, None, OK
    )
    async with connected(server) as asking:
        assert (await asking.post("/", b"{}")).status == 200
        assert (await asking.post("/", b"{}")).status == 200
        with pytest.raises(ManagerUnreachableError, match="by the gateway") as raised:
            await asking.post("/", b"{}")
        assert not isinstance(raised.value, NotConnectedError), "it may have arrived"
        assert (await asking.post("/", b"{}")).status == 200
    assert server.connections == 3


async def test_an_idle_connection_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = StatusServer(OK, OK)
    async with connected(server) as asking:
        await asking.post("/", b"{}")
        monkeypatch.setattr(connection, "KEEP_ALIVE", 0.0)
        await asking.post("/", b"{}")
    assert server.connections == 2


async def test_an_invalid_response(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(StatusServer(b"SSH-2.0-x\r\n", OK)) as asking:
        with pytest.raises(ManagerUnreachableError, match="not HTTP"):
            await asking.post("/", b"{}")
        assert (await asking.post("/", b"{}")).status == 200
    monkeypatch.setattr(connection, "TIMEOUT", 0.05)
    async with connected(StatusServer(OK[:-1])) as asking:
        with pytest.raises(ManagerUnreachableError, match="in time"):
            await asking.post("/", b"{}")


async def test_no_server() -> None:
    asking = KeepAliveConnection(HttpTarget.parse(f"http://127.0.0.1:{free_ports(1)[0]}"), "token")
    with pytest.raises(NotConnectedError):
        await asking.post("/", b"{}")
    asking.close()


def test_valid_urls() -> None:
    assert HttpTarget.parse("http://gw:8000")[:3] == ("gw", 8000, None)
    assert HttpTarget.parse("http://[::1]:8000/x/")[3:] == ("[::1]:8000", "/x")
    tls = HttpTarget.parse("https://gw.example")
    assert (tls.port, tls.authority, tls.base) == (443, "gw.example", "")
    assert tls.tls is not None
    assert tls.tls.check_hostname


@pytest.mark.parametrize(
    "url", ["", "gw:8000", "ftp://gw", "http://", "http://gw:x", "http://gw:99999"]
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(LocalError, match="is not the URL of a gateway"):
        HttpTarget.parse(url)
