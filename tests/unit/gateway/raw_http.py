"""Raw HTTP: an application on a socket, and httpx without checks of what it sends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.connection.protocol import LimitedProtocol
from service.http.server import server_config


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application without uvicorn's slow start and stop; yield a client."""
    config = server_config(app, HttpSettings(metrics_token=ReloadableTokens("m")))
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    server = await loop.create_server(
        lambda: LimitedProtocol(config, state, {}), host="127.0.0.1", port=0
    )
    transport = RawTransport(server.sockets[0].getsockname()[1])
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http
    server.close()
    await asyncio.gather(*state.tasks, return_exceptions=True)


class RawTransport(httpx.AsyncBaseTransport):
    """Opens one connection per request, to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        sending = asyncio.create_task(self._send(request, writer))
        try:
            async with asyncio.timeout(10):
                answer = await reader.read()
        finally:
            sending.cancel()
            writer.close()
        header, _, content = answer.partition(b"\r\n\r\n")
        status, *fields = header.split(b"\r\n")
        headers = [(name, value) for name, _, value in (f.partition(b": ") for f in fields)]
        return httpx.Response(int(status.split()[1]), headers=headers, content=content)

    async def _send(self, request: httpx.Request, writer: asyncio.StreamWriter) -> None:
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        # A repeated header would bypass the fast path: httpx has set `Connection: keep-alive`.
        fields = [field for field in request.headers.raw if field[0].lower() != b"connection"]
        lines += [b"%b: %b" % field for field in fields]
        writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        assert isinstance(request.stream, httpx.AsyncByteStream)
        chunked = "transfer-encoding" in request.headers
        async for piece in request.stream:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            writer.write(b"0\r\n\r\n")
