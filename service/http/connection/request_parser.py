"""A strict parser of HTTP/1 requests (RFC 9112).

The end of each request is unambiguous: a message is framed in exactly one way (`request_head.py`),
or it is an error, after which all input is ignored.
"""

import re
from collections.abc import Callable
from typing import Protocol

from service.http.connection.request_head import (
    FIELD_LINES,
    HEAD,
    HEAD_BEGINNING,
    Request,
    RequestError,
    head_too_large,
    parse_head,
)

MAX_REPEATED_HEAD = 2048
"""Maximum length in bytes of a head that a connection keeps to recognise its repetition."""
MAX_REPEATED_SIZE = 8192
"""Maximum counted size of such a head; see Request.size."""
MAX_STEPS = 16
"""Maximum requests or body parts per call, so that other connections get a turn on the event
loop."""
MAX_CHUNKS = 128
"""Maximum number of chunks that are joined to one part of a body."""
MAX_CHUNK_EXTENSION = 1024
"""Maximum bytes of the extensions of one chunk, which are ignored."""

_TRAILERS = re.compile(rb"%b\r\n" % FIELD_LINES)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]{0,%d}+)?\r\n" % MAX_CHUNK_EXTENSION)
_MAX_CHUNK_LINE = 16 + 1 + MAX_CHUNK_EXTENSION + 2


class RequestHandler(Protocol):
    """Receives the parsed parts; an exception from it ends the parser."""

    def on_request(self, request: Request, body: bytes | None, /) -> bool:
        """Receive the head of a request, with its whole body if that has been received.

        Return True if this completes the request; otherwise its body follows in parts.
        """

    def on_body(self, body: bytes, /) -> None: ...

    def on_message_complete(self) -> None: ...


class RequestParser:
    """Parses the input of one connection."""

    def __init__(self, handler: RequestHandler, max_head: int) -> None:
        self._handler = handler
        self._max_head = max_head
        self._step: Callable[[bytes, int], int] = self._read_head
        self._rest = b""
        """Received bytes of an incomplete part."""
        self._searched = 0
        """Leading bytes of `_rest` that contain no end of a header."""
        self._left = 0
        """Bytes of a body or chunk that are still to be received."""
        self._at_chunk_end = False
        self._head = b"\0"
        """The previous head as sent, if it was short; the default matches no head."""
        self._request: Request | None = None
        """The parsed form of that head."""
        self.accept = b""
        """Accept of the request whose body is being received, else of the previous one."""
        self._keep_alive = True
        self.in_body = False
        """Whether a request has begun and its body is incomplete."""
        self.is_paused = False
        """Set by the handler; no further request may begin, but a body is still parsed."""

    @property
    def is_between(self) -> bool:
        """Whether no part of another request has been received."""
        return not (self.in_body or self._rest)

    @property
    def unparsed(self) -> int:
        """Bytes that were received and not parsed."""
        return len(self._rest)

    @property
    def is_waiting(self) -> bool:
        """Whether bytes of another request wait because of `is_paused`."""
        return self.is_paused and not self.in_body and bool(self._rest)

    def feed(self, data: bytes) -> bool:
        """Parse the remaining input and `data`.

        Return whether more can be parsed at once; one call takes at most MAX_STEPS steps.

        Raises:
            RequestError: the input is not a valid request. `feed` must not be called again.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end, steps = 0, len(data), 0
        while at < end:
            began, at = at, self._step(data, at)
            if at == began:
                self._keep(data[at:] if at else data)
                return False
            steps += 1
            if steps == MAX_STEPS:
                self._rest = data[at:]
                return at < end
        return False

    def discard(self) -> None:
        """Ignore unparsed and further input."""
        self._rest = b""
        self._step = self._discard
        self._keep_alive = self.in_body = False

    def _keep(self, rest: bytes) -> None:
        self._rest = rest
        if len(rest) > self._max_head and not self.is_waiting:
            raise head_too_large(self._max_head)

    def _read_head(self, data: bytes, at: int) -> int:
        if self.is_paused:
            return at
        # A client repeats its head, and the same bytes always have the same meaning.
        if data.startswith(self._head, at) and self._request is not None:
            request, end = self._request, at + len(self._head)
        else:
            match = None if self._searched else HEAD.match(data, at)
            if match is None:
                if data.startswith(b"\r\n", at):
                    self._searched = 0
                    self._step = self._read_head_after_line
                    return at + 2
                match = self._find_head(data, at)
                if match is None:
                    return at
            method, target, minor, lines = match.groups()
            request = parse_head(method, target, minor, lines, self._max_head)
            end = match.end()
            if end - at <= MAX_REPEATED_HEAD and request.size <= MAX_REPEATED_SIZE:
                self._head, self._request = match[0], request
        self._searched = 0
        self._keep_alive = request.keep_alive
        self.accept = request.fields.get(b"accept", b"")
        length = request.length
        if length is None:
            self._left, self._step = 0, self._read_chunks
            self._handler.on_request(request, None)
            self.in_body = True
        elif length <= len(data) - end:
            if self._handler.on_request(request, data[end : end + length]):
                self._expect_next()
                return end + length
            self.in_body = True
            if length:
                self._handler.on_body(data[end : end + length])
            self._complete()
            return end + length
        else:
            self._left, self._step = length, self._read_body
            self._handler.on_request(request, None)
            self.in_body = True
        return end

    def _read_head_after_line(self, data: bytes, at: int) -> int:
        """Ignore one empty line before a request (RFC 9112, 2.2); refuse a second one."""
        if data.startswith(b"\r", at):
            raise _bad_request()
        self._step = self._read_head
        return self._read_head(data, at)

    def _find_head(self, data: bytes, at: int) -> re.Match[bytes] | None:
        """Return the head of a request; None if it is incomplete.

        Raises:
            RequestError: the input is not a head, or cannot become one.
        """
        end = data.find(b"\r\n\r\n", max(at, self._searched))
        if end < 0:
            if not self._searched and HEAD_BEGINNING.fullmatch(data, at) is None:
                raise _bad_request()
            self._searched = max(len(data) - at - 3, 1)
            return None
        match = HEAD.match(data, at)
        if match is None:
            raise _bad_request()
        return match

    def _read_body(self, data: bytes, at: int) -> int:
        body = data[at : at + self._left] if at or len(data) > self._left else data
        self._left -= len(body)
        self._handler.on_body(body)
        if not self._left:
            self._complete()
        return at + len(body)

    def _read_chunks(self, data: bytes, at: int) -> int:
        """Join up to MAX_CHUNKS received chunks to one part of the body."""
        chunks: list[bytes] = []
        while at < len(data) and len(chunks) < MAX_CHUNKS:
            if self._left:
                chunk = data[at : at + self._left]
                chunks.append(chunk)
                at += len(chunk)
                self._left -= len(chunk)
                self._at_chunk_end = not self._left
            elif self._at_chunk_end:
                if not data.startswith(b"\r\n", at):
                    if data[at:] == b"\r":
                        break
                    raise _bad_chunk()
                at += 2
                self._at_chunk_end = False
            else:
                match = _CHUNK.match(data, at)
                if match is None:
                    if data.find(b"\n", at) >= 0 or len(data) - at > _MAX_CHUNK_LINE:
                        raise _bad_chunk()
                    break
                at = match.end()
                self._left = int(match[1], 16)
                if not self._left:
                    self._step = self._read_trailers
                    break
        if chunks:
            self._handler.on_body(b"".join(chunks))
        return at

    def _read_trailers(self, data: bytes, at: int) -> int:
        """Skip trailers; decisions are based on headers only."""
        if data.startswith(b"\r\n", at):
            self._complete()
            return at + 2
        end = data.find(b"\r\n\r\n", max(at, self._searched))
        if end < 0:
            self._searched = max(len(data) - at - 3, 0)
            return at
        self._searched = 0
        match = _TRAILERS.match(data, at)
        if match is None or match.end() != end + 4:
            raise _bad_request()
        self._complete()
        return match.end()

    def _complete(self) -> None:
        self.in_body = False
        self._expect_next()
        self._handler.on_message_complete()

    def _expect_next(self) -> None:
        self._step = self._read_head if self._keep_alive else self._discard

    def _discard(self, data: bytes, at: int) -> int:
        """Ignore input after the last request."""
        return len(data)


def _bad_request() -> RequestError:
    return RequestError(400, "The request is not valid HTTP")


def _bad_chunk() -> RequestError:
    return RequestError(400, "A chunk of the body is not valid")
