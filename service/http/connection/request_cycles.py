"""Variants of uvicorn's request cycle for clients that cannot handle its responses."""

import asyncio
from typing import Any

from service.http.connection.request_head import Request
from service.http.uvicorn_compat import RequestResponseCycle


class ExpectingCycle(RequestResponseCycle):
    """A request with `Expect: 100-continue`.

    A client that gets its final response before the 100 may send the body or not (RFC 9110,
    10.1.1). The next bytes may be that body or a new request, so the connection is closed after the
    response.
    """

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)


class OldCycle(RequestResponseCycle):
    """An HTTP/1.0 request: a response of unknown length is not chunked, but ends with the
    connection.

    Such a request has no 100-continue, and its connection is not kept alive.
    """

    _is_unbounded = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._is_unbounded = b"content-length" not in names
            if self._is_unbounded:
                self.chunked_encoding = False
        elif self._is_unbounded:
            # uvicorn requires that the body has the announced length.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def make_cycle(request: Request, **options: Any) -> RequestResponseCycle:
    """Create the cycle of a request."""
    if request.version == "1.0":
        kind: type[RequestResponseCycle] = OldCycle
    elif request.fields.get(b"expect", b"").lower() == b"100-continue":
        kind = ExpectingCycle
    else:
        kind = RequestResponseCycle
    return kind(
        message_event=asyncio.Event(), expect_100_continue=kind is ExpectingCycle, **options
    )
