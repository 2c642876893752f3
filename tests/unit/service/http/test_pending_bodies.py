"""Unread bodies are bounded for all connections together, and release their capacity."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from service.http.connection.fast_path import FastPathExchange, RawHeaders
from tests.unit.service.http.site import (
    GET,
    RawConnection,
    Site,
    nothing_is_counted,
    start,
)

BODY = 60_000
FULL = 503, {"error": "Too much data is being received: try again"}
SLOW = 200, {"slow": True}
TAKEN = 200, {"taken": BODY}


def request(method: str, path: str, length: int = BODY) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + b" " * BODY


def declined(_: bytes, __: RawHeaders, ___: bytes, ____: FastPathExchange, /) -> bool:
    return False


@pytest.fixture(params=[None, declined], ids=["asgi", "held"])
async def site(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """A server with capacity for one and a half bodies."""
    monkeypatch.setattr("service.http.connection.server_limits.MAX_PENDING_BYTES", BODY + BODY // 2)
    async with contextlib.AsyncExitStack() as stack:
        yield await start(stack, request.param)
    assert nothing_is_counted()


async def enter(site: Site, connection: RawConnection, method: str = "GET") -> None:
    """Send a body that its handler does not read."""
    await connection.send(request(method, "/slow"))
    async with asyncio.timeout(5):
        await site.entered.acquire()


async def until_there_is_room(site: Site) -> None:
    async with asyncio.timeout(5):
        while True:
            async with site.connect() as connection:
                await connection.send(request("POST", "/take"))
                answer = await connection.answer()
            if answer == TAKEN:
                return
            assert answer == FULL


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bodies_beyond_the_limit_get_503_and_the_connection_is_closed(
    site: Site, method: str
) -> None:
    async with site.connect() as first:
        await enter(site, first, method)
        for path in ("/slow", "/take"):
            async with site.connect() as second:
                await second.send(request(method, path))
                assert await second.answer() == FULL
                assert await second.rest() == b""
        async with site.connect() as small:
            await small.send(GET)
            assert (await small.answer())[0] == 200
        site.go_on.set()
        assert await first.answer() == SLOW
        await until_there_is_room(site)  # although the first connection continues


async def test_a_disconnected_client_releases_capacity(site: Site) -> None:
    async with site.connect() as first:
        await enter(site, first)
        await first.reset()
    await until_there_is_room(site)


async def test_a_read_body_releases_capacity(site: Site) -> None:
    async with site.connect() as first:
        await first.send(request("POST", "/take", 2 * BODY))
        await until_there_is_room(site)
        await first.send(b" " * BODY)
        assert await first.answer() == (200, {"taken": 2 * BODY})


async def test_a_pending_response_is_sent_before_the_connection_is_closed(site: Site) -> None:
    async with site.connect() as first, site.connect() as second:
        await second.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await site.entered.acquire()
        await enter(site, first)
        await second.send(request("POST", "/take"))
        await second.send(GET)
        async with site.connect() as third:
            await third.send(GET)
            assert (await third.answer())[0] == 200
        site.go_on.set()
        assert await second.answer() == SLOW
        # The following input is read only now.
        assert await second.answer() in (TAKEN, FULL)
