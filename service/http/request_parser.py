"""A strict parser of HTTP/1 requests (RFC 9112).

The end of each request is unambiguous: a message is framed in exactly one way, or it is an error,
after which all input is ignored. So there is no leniency and no optional whitespace. An `Upgrade`
header has no effect on framing.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

Headers = list[tuple[bytes, bytes]]

HEADER_OVERHEAD = 256
"""Bytes counted for each header in addition to its length; a short header takes about 250 bytes of
memory."""
MAX_REPEATED_HEAD = 2048
"""Maximum length in bytes of a head that a connection keeps to recognise its repetition."""
MAX_REPEATED_SIZE = 8192
"""Maximum counted size of such a head; see Request.size."""
MAX_STEPS = 16
"""Requests or body parts that one call parses, so that other connections get the event loop."""
MAX_CHUNKS = 128
"""Maximum number of chunks that are joined to one part of a body."""
MAX_CHUNK_EXTENSION = 1024
"""Maximum bytes of the extensions of one chunk, which are ignored."""

_FIELD_LINES = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+"
# The application decides which methods exist. CONNECT would turn the connection into a tunnel.
_HEAD = re.compile(
    rb"((?!CONNECT )[A-Z-]{1,20}+) ([!\"$-~]++) HTTP/1\.([01])\r\n"
    rb"(%b)\r\n" % _FIELD_LINES
)
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
_BEGINNING = re.compile(
    rb"[A-Z-]{0,20}+(?: [!\"$-~]*+(?: [HTP/1.0]*+(?:\r(?:\n(?:[^ \t].*+)?)?)?)?)?|\r", re.S
)
"""Matches the valid beginnings of a head. An incomplete first segment that does not match is
refused at once; later segments are checked when the head is complete."""
_TRAILERS = re.compile(rb"%b\r\n" % _FIELD_LINES)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]{0,%d}+)?\r\n" % MAX_CHUNK_EXTENSION)
_MAX_CHUNK_LINE = 16 + 1 + MAX_CHUNK_EXTENSION + 2
_AUTHORITY = (
    rb"(?:[0-9A-Za-z.~!$&'()*+,;=_-]+|\[[0-9A-Fa-f:.]+\])"
    rb"(?::(?:[0-5]?[0-9]{0,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
_HOST = re.compile(rb"(?:%b)?" % _AUTHORITY)
_ABSOLUTE = re.compile(rb"(?i:https?)://%b(?![^/?])" % _AUTHORITY)
_ONCE = (b"host", b"content-length", b"transfer-encoding")
MAX_LENGTH_DIGITS = 18
MAX_HOST = 270
"""Maximum length of a Host header in bytes; a domain name has at most 253."""
_SLASH = ord("/")
_new = tuple.__new__


class RequestError(Exception):
    """A request is refused; all further input on the connection is ignored."""

    def __init__(self, status: int, error: str, headers: bytes = b"") -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers
        """Complete header lines."""


class Request(NamedTuple):
    """The head of a request."""

    method: bytes
    target: bytes
    """In origin form, whatever form was sent: it starts with `/`, or is `*`."""
    version: str
    fields: dict[bytes, bytes]
    """Headers by lower-case name; of repeated headers, the last one."""
    is_single: bool
    """Whether no header is repeated."""
    length: int | None
    """Bytes of the body; None if it is chunked."""
    keep_alive: bool
    """Whether another request may follow on the connection."""
    lines: bytes
    """The header lines as sent."""
    size: int
    """Bytes of memory that are counted for the head."""

    def headers(self) -> Headers:
        """Return the headers in the order in which they were sent, with lower-case names."""
        return _headers(self.lines)


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
            raise _too_large(self._max_head)

    def _read_head(self, data: bytes, at: int) -> int:
        if self.is_paused:
            return at
        # A client repeats its head, and the same bytes always have the same meaning.
        if data.startswith(self._head, at) and self._request is not None:
            request, end = self._request, at + len(self._head)
        else:
            match = None if self._searched else _HEAD.match(data, at)
            if match is None:
                if data.startswith(b"\r\n", at):
                    self._searched = 0
                    self._step = self._read_head_after_line
                    return at + 2
                match = self._find_head(data, at)
                if match is None:
                    return at
            method, target, minor, lines = match.groups()
            request = _request(method, target, minor, lines, self._max_head)
            end = match.end()
            if end - at <= MAX_REPEATED_HEAD and request.size <= MAX_REPEATED_SIZE:
                self._head, self._request = match[0], request
        self._searched = 0
        self._keep_alive = request.keep_alive
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
            if not self._searched and _BEGINNING.fullmatch(data, at) is None:
                raise _bad_request()
            self._searched = max(len(data) - at - 3, 1)
            return None
        match = _HEAD.match(data, at)
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


def _request(method: bytes, target: bytes, minor: bytes, lines: bytes, max_head: int) -> Request:
    """Parse a head.

    Raises:
        RequestError: it is larger than `max_head`, ambiguous, or not supported.
    """
    count = lines.count(b"\r\n")
    size = len(target) + len(lines) + HEADER_OVERHEAD * count
    if size > max_head:
        raise _too_large(max_head)
    fields = dict(_headers(lines))
    is_single = len(fields) == count
    if not is_single:
        _require_single(lines)
    version, keep_alive = ("1.1", True) if minor == b"1" else ("1.0", False)
    if b"connection" in fields and b"close" in _tokens(lines, b"connection"):
        keep_alive = False
    host = fields.get(b"host")
    if host is None:
        if minor == b"1":
            raise RequestError(400, "An HTTP/1.1 request requires a Host header")
    elif len(host) > MAX_HOST or not _is_host(host):
        raise RequestError(400, "The Host header is not valid")
    length: int | None = None
    if b"transfer-encoding" in fields:
        _require_chunked(fields, version)
    else:
        digits = fields.get(b"content-length", b"0")
        if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
            raise RequestError(400, "The Content-Length header is not valid")
        length = int(digits)
    if target[0] != _SLASH:
        target = _origin_form(target, method)
    # Bypasses the check of its arguments, which takes a tenth of the parser's time.
    return _new(
        Request, (method, target, version, fields, is_single, length, keep_alive, lines, size)
    )


def _too_large(max_head: int) -> RequestError:
    return RequestError(431, f"The header is larger than {max_head} bytes")


def _bad_request() -> RequestError:
    return RequestError(400, "The request is not valid HTTP")


def _bad_chunk() -> RequestError:
    return RequestError(400, "A chunk of the body is not valid")


def _headers(lines: bytes) -> Headers:
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(lines)]


def _tokens(lines: bytes, name: bytes) -> set[bytes]:
    """Return the members of a list header (RFC 9110, 5.6.1) in lower case."""
    values = b",".join([value for each, value in _headers(lines) if each == name])
    return {token.strip(b" \t").lower() for token in values.split(b",")}


def _require_single(lines: bytes) -> None:
    """Refuse a request with repeated headers that identify or frame it."""
    names = [name for name, _ in _headers(lines)]
    for name in _ONCE:
        if names.count(name) > 1:
            raise RequestError(400, f"The {name.decode().title()} header must not be repeated")


def _require_chunked(fields: dict[bytes, bytes], version: str) -> None:
    if b"content-length" in fields:
        raise RequestError(400, "Content-Length and Transfer-Encoding must not be combined")
    if version == "1.0" or fields[b"transfer-encoding"].lower() != b"chunked":
        raise RequestError(400, "The only supported Transfer-Encoding is chunked, with HTTP/1.1")


@functools.lru_cache(256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _origin_form(target: bytes, method: bytes) -> bytes:
    """Return path and query of an absolute URL (RFC 9112, 3.2.2); `*` is valid only for OPTIONS."""
    match = _ABSOLUTE.match(target)
    if match is not None:
        rest = target[match.end() :]
        return rest if rest.startswith(b"/") else b"/" + rest
    if target == b"*" and method == b"OPTIONS":
        return target
    raise RequestError(400, "The target of the request is not valid")
