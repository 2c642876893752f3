"""Direct answers: requests that are answered without ASGI, for paths where its cost would show.

uvicorn makes a scope, a task, an event and a cycle of messages for each request, Starlette a
request, a route and a response: far more than an authenticated, decoded, queued submission costs.
An application may therefore name a `direct` handler. It is called with each request that came
whole and plain (see service.http.protocol) and either takes it, and answers when it can, or
declines it, and the request goes the ordinary way as if nothing had happened.
"""

import time
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

RawHeaders = dict[bytes, bytes]


class FastPathExchange:
    """One request and its answer; for uvicorn's protocol, what else its request cycle would be.

    uvicorn looks at `response_complete`, `response_started`, `more_body` and `keep_alive`, and sets
    `disconnected` and `message_event`.
    """

    __slots__ = (
        "_protocol",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
        "started_at",
    )

    more_body = False
    response_started = False

    def __init__(self, protocol: Any, keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NO_EVENT
        self.started_at = time.perf_counter()

    def respond(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Send the one answer; nothing where the caller has gone. `headers` are whole lines."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self._protocol
        if not self.disconnected:
            protocol.write_response(status, body, headers, self.keep_alive)
        protocol.on_response_complete()


class _NoEvent:
    """Nobody waits for more of a request that came whole."""

    def set(self) -> None:
        return


_NO_EVENT = _NoEvent()


class FastPathHandler(Protocol):
    """Takes a request and answers by the exchange, now or later; or returns False at once.

    The request is a POST of HTTP/1.1 that came whole, with no header twice. `target` is as it was
    sent, or the path of an absolute URL; the names of headers are in lower case.
    """

    def __call__(
        self, target: bytes, headers: RawHeaders, body: bytes, exchange: FastPathExchange, /
    ) -> bool: ...


def encode_response(
    status: int, body: bytes, headers: bytes, default_headers: bytes, keep_alive: bool
) -> bytes:
    """One answer as it goes over the wire."""
    return b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n%b%b\r\n%b" % (
        STATUS_LINE[status],
        default_headers,
        len(body),
        headers,
        b"" if keep_alive else b"connection: close\r\n",
        body,
    )
