"""HTTP on one connection: uvicorn's protocol with limits, and with errors in JSON.

What comes before a handler is called is a stranger's: without limits a header that grows, or one
that never ends, takes memory and connections that nobody gave it.
"""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEADER_OVERHEAD = 32
"""Bytes that each header counts for beside its name and value: it costs memory, however short."""


class HeaderTooLargeError(Exception):
    """Raised within the parser: the request has more header than it may have."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection, with limits."""

    max_header_bytes = 64 * 1024
    header_within = 10.0
    """Seconds in which a connection must bring a whole header whenever nothing is being answered;
    between two requests uvicorn's keep-alive of 5 s ends it before."""
    max_connections = 10_000
    read_within = 30.0
    """Seconds in which a client must have read what was written, so far that more may be; whoever
    does not is gone, and a connection that waits to be closed is no exception."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_bytes = 0
        self._unparsed = 0
        """Bytes taken since the parser last finished a header, or brought a piece of a body."""
        self._header_is_too_large = False
        self._overdue: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "Too many connections: try again", b"retry-after: 1\r\n")
        else:
            self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        self._end_wait_for_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_wait_for_reader()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > self.max_header_bytes and not self.transport.is_closing():
            self._refuse_header()
        elif self._is_answering():
            self._end_watch()
        else:
            self._watch_header()

    def shutdown(self) -> None:
        """Finish what is being answered, and nothing else.

        A pipelined request that has not begun would get its whole time only then: a stop would
        have to cut it off with its fate undecided.
        """
        self._stopping = True
        self.pipeline.clear()
        super().shutdown()

    def on_response_complete(self) -> None:
        if self._stopping:
            self.transport.close()
        super().on_response_complete()

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value) + HEADER_OVERHEAD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer to what the parser refuses: no HTTP, an unknown method, or our own limit."""
        if self._header_is_too_large:
            self._refuse_header()
        else:
            self._refuse(400, "This is no valid HTTP request, or its method is unknown")

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a request for an upgrade is answered as if it asked for none."""

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self.max_header_bytes:
            self._header_is_too_large = True
            raise HeaderTooLargeError

    def _refuse_header(self) -> None:
        self._refuse(431, f"The header is larger than {self.max_header_bytes} bytes")

    def _refuse(self, status: int, error: str, *headers: bytes) -> None:
        """Answer and close; only close where the answer would be taken for an earlier request's."""
        if not self._owes_an_answer():
            body = orjson.dumps({"error": error})
            parts = [
                STATUS_LINE[status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"connection: close\r\n",
                *headers,
                b"\r\n",
                body,
            ]
            self.transport.write(b"".join(parts))
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _owes_an_answer(self) -> bool:
        """Tell whether a request that has come whole still waits for its answer."""
        if self.pipeline:
            return True
        return self._is_answering() and (not self.cycle.more_body or self.cycle.response_started)

    def _watch_header(self) -> None:
        if self._overdue is None:
            self._overdue = self.loop.call_later(self.header_within, self._on_overdue)

    def _end_watch(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _end_wait_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _on_overdue(self) -> None:
        self._overdue = None
        if not self._is_answering():
            self.transport.close()
