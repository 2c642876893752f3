"""A client that resets its connection during a request or before the response."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_LINGER_NOT = struct.pack("ii", 1, 0)
"""With this option, closing a socket sends a reset."""


async def reset(url: str, path: str, headers: Mapping[str, str], body: Any, *, whole: bool) -> int:
    """Send a request and reset the connection.

    Returns -1 (no response) if the request was `whole`, else 0: a partial request has no effect.

    Raises:
        OSError: no server listens.
    """
    host, _, port = urlsplit(url).netloc.partition(":")
    content = json.dumps(body).encode()
    lines = {
        "Host": f"{host}:{port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    sent = content if whole else content[: len(content) // 2]
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.encode() + b"\r\n" + sent)
        await writer.drain()
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    finally:
        writer.transport.abort()
    return -1 if whole else 0
