"""Attacks on a server's connections, without or with a stolen credential.

A connection that the server closes is reopened, so an attack lasts as long as permitted.
"""

import asyncio
import contextlib
import functools
import gzip
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from backports import zstd

from gateway.body.reader import JSON, NDJSON
from tests.hostile.bodies import (
    HOSTILE_ITEMS,
    HOSTILE_LINES,
    backlog_of_unclosed_quotes,
    large_backlog,
    submission_of_names,
    submission_of_unclosed_quotes,
)
from tobogganing.devstack.ports import LOOPBACK

DRIP = 0.25
"""Seconds between two bytes of a slow client."""
REOPEN = 0.05
"""Seconds until a closed connection is reopened."""
BOMB = 64 * 2**20
"""Decompressed size of a bomb in bytes."""
LARGEST = 8 * 1024 * 1024
"""Size of the largest batch in bytes."""
TINY = 4 * 2**20
"""Number of items that fit into the largest batch."""


class Victim(NamedTuple):
    """The address of a server, and credentials of a client and a relay that it knows."""

    port: int
    path: str
    key: str
    relay_key: str


@dataclass
class AttackResult:
    """The attackers' results: responses by status, and the number of closed connections."""

    opened: int = 0
    ended: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def count(self, data: bytes) -> None:
        for part in data.split(b"HTTP/1.1 ")[1:]:
            if part[:3].isdigit():
                self.statuses[int(part[:3])] += 1


Send = Callable[[asyncio.StreamWriter, Victim], Coroutine[Any, Any, None]]


class Attack(NamedTuple):
    """An attack; `send` writes to one connection, responses are read only if `reads`."""

    connections: int
    send: Send
    reads: bool = True


async def _nothing(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await writer.wait_closed()


async def _slow_header(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _drip(writer, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000)


async def _slow_body(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _write(writer, _head(victim.path, victim.key, b"Content-Length: 60000"))
    await _drip(writer, b'{"metrics":' + b" " * 10_000)


async def _unfinished_body(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _unfinished(writer, victim.path, victim.key)


async def _unfinished_login(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _unfinished(writer, "/api/v1/auth/token", "")


async def _unfinished(writer: asyncio.StreamWriter, path: str, key: str) -> None:
    await _write(writer, _head(path, key, b"Content-Length: 60000"))
    await _write(writer, b" " * 59_999)
    await writer.wait_closed()


async def _huge_header(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _write(writer, b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
    while True:
        await _write(writer, b"x" * 65_536)


async def _pipelined(writer: asyncio.StreamWriter, victim: Victim) -> None:
    while True:
        await _write(writer, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)


async def _direct(writer: asyncio.StreamWriter, victim: Victim) -> None:
    """Send POST requests that get their responses at once, without ASGI."""
    request = _head(victim.path, victim.key, b"Content-Length: 2") + b"{}"
    while True:
        await _write(writer, request * 1_000)


async def _kept_headers(writer: asyncio.StreamWriter, victim: Victim) -> None:
    """Send a complete request with a large header, and a part of another one."""
    large = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 60_000
    await _write(writer, large + b"\r\n\r\n" + large)
    await writer.wait_closed()


async def _empty_lines(writer: asyncio.StreamWriter, victim: Victim) -> None:
    while True:
        await _write(writer, b"\r\n" * 100_000)


async def _tiny_chunks(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _write(writer, _head("/api/v1/metrics", victim.relay_key, b"Transfer-Encoding: chunked"))
    while True:
        await _write(writer, b"1\r\n \r\n" * 40_000)


async def _endless_chunks(writer: asyncio.StreamWriter, victim: Victim) -> None:
    await _write(writer, _head(victim.path, victim.key, b"Transfer-Encoding: chunked"))
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    while True:
        await _write(writer, chunk)


def _batch(coding: bytes, make: Callable[[], bytes], type: bytes = JSON) -> Send:
    """Return a sender that posts the same batch repeatedly."""

    async def send(writer: asyncio.StreamWriter, victim: Victim) -> None:
        body = made()
        length = b"Content-Encoding: %b\r\nContent-Length: %d" % (coding, len(body))
        request = _head("/api/v1/metrics", victim.relay_key, length, type) + body
        while True:
            await _write(writer, request)
            await asyncio.sleep(DRIP)

    made = functools.cache(make)
    return send


def _lines(lines: Callable[[], bytes]) -> Send:
    return _batch(b"gzip", lambda: gzip.compress(lines(), compresslevel=1), NDJSON)


def _items(items: Callable[[], bytes]) -> Send:
    return _batch(b"gzip", lambda: gzip.compress(b"[%b]" % items(), compresslevel=1))


def _submission(body: bytes) -> Send:
    """Return a sender that posts the same invalid submission repeatedly."""

    async def send(writer: asyncio.StreamWriter, victim: Victim) -> None:
        length = b"Content-Length: %d" % len(body)
        request = _head(victim.path, victim.key, length) + body
        while True:
            await _write(writer, request)
            await asyncio.sleep(DRIP)

    return send


async def _many_headers(writer: asyncio.StreamWriter, victim: Victim) -> None:
    while True:
        await _write(writer, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 12_000 + b"\r\n")


async def _long_tokens(writer: asyncio.StreamWriter, victim: Victim) -> None:
    token = "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ." + "e30" * 20_000 + ".x"
    request = _head("/api/v1/headends/h/metrics", token, b"Content-Length: 2") + b"{}"
    while True:
        await _write(writer, request)
        await asyncio.sleep(DRIP / 10)


def _empty_blocks(size: int) -> bytes:
    """Return a gzip stream that takes long to decompress and contains almost nothing."""
    packer = zlib.compressobj(wbits=31)
    begin = packer.compress(b"[]") + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + b"\x00\x00\x00\xff\xff" * (size // 5) + packer.flush()


async def _long_types(writer: asyncio.StreamWriter, victim: Victim) -> None:
    """Send, without a credential, a content type that is almost valid."""
    type = JSON + b"; charset=utf-8" + b" " * 60_000 + b"x"
    request = _head("/api/v1/auth/token", "", b"Content-Length: 2", type) + b"{}"
    while True:
        await _write(writer, request)
        await asyncio.sleep(DRIP)


def _head(path: str, key: str, length: bytes, type: bytes = JSON) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: %b\r\n%b\r\n\r\n" % (path.encode(), key.encode(), type, length)
    )


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(len(data)):
        await _write(writer, data[at : at + 1])
        await asyncio.sleep(DRIP)


def attacks() -> Iterator[tuple[str, Attack]]:
    """Yield all attacks by name."""
    yield "idle", Attack(10_000, _nothing)
    yield "slow-headers", Attack(1_000, _slow_header)
    yield "slow-bodies", Attack(1_000, _slow_body)
    yield "unfinished-bodies", Attack(4_000, _unfinished_body)
    yield "unfinished-logins", Attack(4_000, _unfinished_login)
    yield "huge-headers", Attack(50, _huge_header)
    yield "pipelined", Attack(20, _pipelined)
    yield "pipelined-unread", Attack(200, _pipelined, reads=False)
    yield "direct-unread", Attack(20, _direct, reads=False)
    yield "kept-headers", Attack(4_000, _kept_headers)
    yield "empty-lines", Attack(20, _empty_lines)
    yield "tiny-chunks", Attack(4, _tiny_chunks)
    yield "endless-chunks", Attack(20, _endless_chunks)
    yield "many-headers", Attack(20, _many_headers)
    yield "long-tokens", Attack(20, _long_tokens)
    yield "long-types", Attack(20, _long_types)
    yield "gzip-bombs", Attack(20, _batch(b"gzip", lambda: gzip.compress(bytes(BOMB))))
    yield "zstd-bombs", Attack(20, _batch(b"zstd", lambda: zstd.compress(bytes(BOMB))))
    members = gzip.compress(b"") * (LARGEST // 20)
    yield "empty-members", Attack(4, _batch(b"gzip", lambda: members))
    yield "empty-blocks", Attack(4, _batch(b"gzip", lambda: _empty_blocks(LARGEST - 100)))
    yield "tiny-items", Attack(4, _items(lambda: b"1," * (TINY - 1_000) + b"1"))
    for name, items in HOSTILE_ITEMS.items():
        yield name, Attack(4, _items(items))
    yield "large-backlogs", Attack(20, _submission(large_backlog()))
    for name, lines in HOSTILE_LINES.items():
        yield name, Attack(4, _lines(lines))
    yield "submissions-of-names", Attack(20, _submission(submission_of_names()))
    yield "unclosed-quotes", Attack(20, _submission(submission_of_unclosed_quotes()))
    yield "backlogs-of-quotes", Attack(20, _submission(backlog_of_unclosed_quotes()))


ATTACKS = dict(attacks())


@contextlib.asynccontextmanager
async def under(attack: Attack, victim: Victim) -> AsyncIterator[AttackResult]:
    """Attack during the context, which begins when the maximum number of connections is open.

    Connections that the server rejects or closes are reopened.
    """
    seen = AttackResult()
    all_open = asyncio.Event()

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                await _connection(attack, victim, seen, all_open, number)
            seen.ended += 1
            await asyncio.sleep(REOPEN)

    tasks = [asyncio.create_task(one(number)) for number in range(attack.connections)]
    try:
        async with asyncio.timeout(60):
            await all_open.wait()
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connection(
    attack: Attack, victim: Victim, seen: AttackResult, all_open: asyncio.Event, number: int
) -> None:
    # An address has some ten thousand ports, and each is blocked for a minute after its use.
    address = f"127.0.0.{2 + number % 200}"
    reader, writer = await asyncio.open_connection(
        LOOPBACK, victim.port, local_addr=(address, 0), limit=2**16
    )
    seen.opened += 1
    if seen.opened >= attack.connections:
        all_open.set()
    try:
        sending = asyncio.create_task(attack.send(writer, victim))
        if attack.reads:
            while data := await reader.read(2**16):
                seen.count(data)
        else:
            with contextlib.suppress(OSError):
                await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
