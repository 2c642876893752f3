"""uvicorn's request cycles, where a client cannot take what uvicorn would send."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.http.request_parser import Request


class ExpectingCycle(RequestResponseCycle):
    """A request with `Expect: 100-continue`.

    A client that gets its response before 100 may send the body or not (RFC 9110, 10.1.1). So the
    next bytes may be either that body or a request: the connection ends with the response.
    """

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)


class OldCycle(RequestResponseCycle):
    """A request of HTTP/1.0: a response of unknown length ends with the connection, not in chunks.

    Such a request has no 100-continue, and its connection is never kept.
    """

    _is_unbounded = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._is_unbounded = b"content-length" not in names
            if self._is_unbounded:
                self.chunked_encoding = False
        elif self._is_unbounded:
            # uvicorn requires that the body has the length that was announced.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def make_cycle(request: Request, **options: Any) -> RequestResponseCycle:
    """The cycle of a request."""
    if request.version == "1.0":
        kind: type[RequestResponseCycle] = OldCycle
    elif request.fields.get(b"expect", b"").lower() == b"100-continue":
        kind = ExpectingCycle
    else:
        kind = RequestResponseCycle
    return kind(
        message_event=asyncio.Event(), expect_100_continue=kind is ExpectingCycle, **options
    )
