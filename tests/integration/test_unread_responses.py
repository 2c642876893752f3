"""Unread responses: a real gateway keeps at most 32 MiB of them."""

import asyncio
import contextlib
import socket
from pathlib import Path

from bench.processes import resident_bytes
from gateway.api.openapi import PATH
from service.config.settings import KafkaSettings
from service.http.connection.server_limits import MAX_UNREAD_BYTES
from tests.integration.gateways import gateway

READERS = 3_000
"""Number of connections; with one response of 60 KB each, they exceed the limit five times."""
REQUESTS = 4
"""Requests per connection; the socket's buffer holds one or two of the responses."""
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
LAST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
SEGMENT = 536
"""Bytes of a TCP segment; the kernel's buffers are a multiple of it."""
OTHER_MEMORY = 64 * 2**20
"""Bytes for the connections themselves, and for memory that the allocator keeps."""


def _slow_reader(port: int) -> socket.socket:
    """A connection with small buffers that sends its requests and reads nothing."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    reader.connect(("127.0.0.1", port))
    reader.sendall(REQUEST * (REQUESTS - 1) + LAST)
    return reader


async def _responses(reader: socket.socket) -> int:
    """Read to the end of the connection; return the number of responses that were started."""
    loop = asyncio.get_running_loop()
    reader.setblocking(False)
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(reader, 2**16):
            received += data
    return received.count(b"HTTP/1.1 200 OK")


async def test_unread_responses_are_limited_and_the_slowest_readers_are_aborted(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    async with gateway(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        before = resident_bytes(service.pid)
        with contextlib.ExitStack() as stack:
            readers = []
            for _ in range(READERS):
                readers.append(stack.enter_context(_slow_reader(service.port)))
                await asyncio.sleep(0)
            assert await _responses(readers[-1]) == REQUESTS
            grown = resident_bytes(service.pid) - before
            assert await _responses(readers[0]) < REQUESTS
        assert grown < MAX_UNREAD_BYTES + OTHER_MEMORY
