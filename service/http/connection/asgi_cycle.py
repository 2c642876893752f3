"""Requests that are handled through ASGI: uvicorn's request cycle, with a limit of the body's
memory, for clients that cannot handle its responses, too."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from service.http.connection.request_head import PEER, Request
from service.http.uvicorn_compat import (
    HIGH_WATER_LIMIT,
    RequestResponseCycle,
    get_local_addr,
    is_ssl,
)
from service.memory_budget import MemoryBudget, Reservation

_uvicorn_log = logging.getLogger("uvicorn.error")


class _Output:
    """The transport of a request cycle; `close` lingers, so that the client can read the
    response."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, finish: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = finish


class AsgiCycle(RequestResponseCycle):
    """A request, its body as it is received, and its response.

    `pending` bounds the bytes of the body that the application has not received yet. `finish`
    closes the connection after the response.

    Raises:
        BudgetExceededError: `body`, the part that was received, exceeds the budget.
    """

    def __init__(
        self,
        request: Request,
        body: bytes,
        pending: MemoryBudget,
        transport: asyncio.Transport,
        finish: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(
            transport=_Output(transport, finish),  # type: ignore[arg-type]
            logger=_uvicorn_log,
            access_logger=_uvicorn_log,
            access_log=False,
            message_event=asyncio.Event(),
            expect_100_continue=request.version == "1.1"
            and request.fields.get(b"expect", b"").lower() == b"100-continue",
            **options,
        )
        self._pending = Reservation(pending)
        self._is_old = request.version == "1.0"
        self._is_unbounded = False
        """Whether the response has no known length and ends with the connection."""
        if body:
            self.append(body)

    def append(self, chunk: bytes) -> None:
        """Add a received part of the body.

        Raises:
            BudgetExceededError: there is no capacity for it.
        """
        self._pending.add(len(chunk))
        self.body += chunk
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    def complete_body(self) -> None:
        self.more_body = False
        self.message_event.set()

    def drop_body(self) -> None:
        """Discard the unread part of the body."""
        self.body = bytearray()
        self._pending.resize(0)

    def disconnect(self) -> None:
        """Notify the application that the client receives no response."""
        self.drop_body()
        self.disconnected = True
        self.message_event.set()

    async def receive(self) -> Any:
        message = await super().receive()
        self._pending.resize(0)
        return message

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            # The client may send the body or not after a final response (RFC 9110, 10.1.1). The
            # next bytes may be that body or a new request, so no further request is read.
            self.keep_alive = False
        if self._is_old:
            self._send_unchunked(message)
        await super().send(message)

    def _send_unchunked(self, message: Any) -> None:
        """An HTTP/1.0 client does not know chunks, and its connection is not kept alive."""
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._is_unbounded = b"content-length" not in names
            if self._is_unbounded:
                self.chunked_encoding = False
        elif self._is_unbounded:
            # uvicorn requires that the body has the announced length.
            self.expected_content_length = len(message.get("body", b""))


def make_scope(
    request: Request,
    transport: asyncio.Transport,
    client: tuple[str, int] | None,
    state: dict[str, Any],
) -> dict[str, Any]:
    """Return the ASGI scope of a request from `client`."""
    raw_path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "server": get_local_addr(transport),
        "client": client,
        PEER: client,
        "scheme": "https" if is_ssl(transport) else "http",
        "method": request.method.decode("ascii"),
        "root_path": "",
        # Not decoded: proxies route by the path as sent, so the application does too.
        "path": raw_path.decode("ascii"),
        "raw_path": raw_path,
        "query_string": query,
        "headers": request.headers(),
        "state": state.copy(),
    }
