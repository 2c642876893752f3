"""Requests that are handled without ASGI, for paths where its cost matters.

For each request uvicorn creates a scope, a task, an event and a cycle of messages; Starlette
creates a request, a route and a response. This costs far more than authenticating, decoding and
queueing a submission. An application may therefore set a `fast_path` handler. It is called with
each complete and plain request (see `protocol.py`). It either accepts the request and responds
later, or declines it, and the request is passed to ASGI.
"""

import time
from typing import Any, Protocol

from service.http.connection.request_head import Request
from service.http.problem import PROBLEM, as_problem, wants_problem
from service.http.uvicorn_compat import STATUS_LINE

RawHeaders = dict[bytes, bytes]


class FastPathExchange:
    """A request and its response; what asgi_cycle.AsgiCycle is for other requests."""

    __slots__ = (
        "_protocol",
        "_request",
        "disconnected",
        "keep_alive",
        "response_complete",
        "started_at",
    )

    def __init__(self, protocol: Any, request: Request) -> None:
        self._protocol = protocol
        self._request = request
        self.keep_alive = request.keep_alive
        self.response_complete = False
        self.disconnected = False
        self.started_at = time.perf_counter()

    @property
    def peer(self) -> tuple[str, int] | None:
        """Address and port of the other end of the TCP connection."""
        client: tuple[str, int] | None = self._protocol.client
        return client

    def drop_body(self) -> None:
        """Nothing: the body is complete, and belongs to the handler."""

    def disconnect(self) -> None:
        """Take note that the client receives no response."""
        self.disconnected = True

    def respond(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Send the response, unless the client has disconnected. `headers` are complete header
        lines; an error is a JSON object with `error`."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self._protocol
        if not self.disconnected:
            if status == 200:
                data = encode_response(200, body, headers, protocol.header_lines, self.keep_alive)
            else:
                accept = self._request.fields.get(b"accept", b"")
                data = encode_error(
                    status, body, headers, protocol.header_lines, self.keep_alive, accept
                )
            protocol.write_response(data, self.keep_alive)
        protocol.on_response_complete()


class FastPathHandler(Protocol):
    """Accepts a request and responds through the exchange, now or later, or returns False at once.

    The request is a complete HTTP/1.1 POST without repeated headers. `target` is as sent, or the
    path of an absolute URL; header names are in lower case.
    """

    def __call__(
        self, target: bytes, headers: RawHeaders, body: bytes, exchange: FastPathExchange, /
    ) -> bool: ...


def encode_response(
    status: int,
    body: bytes,
    headers: bytes,
    default_headers: bytes,
    keep_alive: bool,
    media_type: bytes = b"application/json",
) -> bytes:
    """Encode a response with a JSON body."""
    return b"%bcontent-type: %b\r\n%bcontent-length: %d\r\n%b%b\r\n%b" % (
        STATUS_LINE[status],
        media_type,
        default_headers,
        len(body),
        headers,
        b"" if keep_alive else b"connection: close\r\n",
        body,
    )


def encode_error(
    status: int,
    body: bytes,
    headers: bytes,
    default_headers: bytes,
    keep_alive: bool,
    accept: bytes,
) -> bytes:
    """Encode an error as plain JSON, or as problem details if `accept` asks for them."""
    if not wants_problem(accept):
        return encode_response(status, body, headers, default_headers, keep_alive)
    headers += b"vary: Accept\r\n"
    problem = as_problem(status, body)
    return encode_response(status, problem, headers, default_headers, keep_alive, PROBLEM)
