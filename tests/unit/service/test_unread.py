"""Bodies that nobody takes are bounded for all connections together, and make room again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.unit.service.test_protocol import GET, Connection, Site, start

BODY = 60_000
FULL = 503, {"error": "Too much is being received: try again"}
SLOW = 200, {"slow": True}


def request(method: str, path: str) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n"
    return head.encode() + b" " * BODY


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server with room for one body, and a half."""
    monkeypatch.setattr("service.unread.MAX_UNREAD", BODY + BODY // 2)
    async with contextlib.AsyncExitStack() as stack:
        yield await start(stack)


async def taken(site: Site, method: str, path: str) -> tuple[int, object]:
    async with site.connect() as connection:
        await connection.send(request(method, path))
        return await connection.answer()


async def entered(site: Site, connection: Connection) -> None:
    """Send a body that its handler does not take."""
    await connection.send(request("GET", "/slow"))
    async with asyncio.timeout(5):
        await site.entered.acquire()


async def test_what_is_too_much_is_503_and_closed(site: Site) -> None:
    async with site.connect() as first, site.connect() as second:
        await entered(site, first)
        await second.send(request("GET", "/slow"))
        assert await second.answer() == FULL
        assert await second.rest() == b""
        assert await taken(site, "POST", "/take?small") == FULL
        async with site.connect() as small:
            await small.send(GET)
            assert (await small.answer())[0] == 200
        site.go_on.set()
        assert await first.answer() == SLOW
        assert await taken(site, "GET", "/slow") == SLOW, "what was answered leaves room"


async def test_who_has_gone_leaves_room(site: Site) -> None:
    async with site.connect() as first:
        await entered(site, first)
    site.go_on.set()
    async with asyncio.timeout(5):
        while await taken(site, "GET", "/slow") != SLOW:
            pass


async def test_what_is_taken_leaves_room(site: Site) -> None:
    async with site.connect() as connection:
        for _ in range(5):
            await connection.send(request("POST", "/take"))
            assert await connection.answer() == (200, {"taken": BODY})
