"""Connections with TLS, in which writing pauses by other rules, under both event loops."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.http.connection.protocol import LimitedProtocol
from service.http.uvicorn_compat import Config, ServerState
from tobogganing.devstack.certificate import self_signed


async def _app(_: Any, __: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_requests_are_answered(run: Callable[[Any], object], tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    file.write_text(self_signed(datetime.now(UTC)))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    trusting = ssl.create_default_context(cafile=file)

    async def ask() -> None:
        config, state = Config(_app, lifespan="off"), ServerState()
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: LimitedProtocol(config, state, {}), "127.0.0.1", 0, ssl=tls
        )
        async with server, asyncio.timeout(20):
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
            )
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

    run(ask())
