"""The head of a request: its parts, and what must hold for them (RFC 9112).

A message is framed in exactly one way, or it is an error. So there is no leniency and no optional
whitespace. An `Upgrade` header has no effect on framing.
"""

import functools
import re
from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]

PEER = "peer"
"""Key of an ASGI scope: the other end of the connection, also if `client` is what a proxy named."""

HEADER_OVERHEAD = 256
"""Bytes counted for each header in addition to its length; a short header takes about 250 bytes of
memory."""
FIELD_LINES = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+"
# The application decides which methods exist. CONNECT would turn the connection into a tunnel.
HEAD = re.compile(
    rb"((?!CONNECT )[A-Z-]{1,20}+) ([!\"$-~]++) HTTP/1\.([01])\r\n"
    rb"(%b)\r\n" % FIELD_LINES
)
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
HEAD_BEGINNING = re.compile(
    rb"[A-Z-]{0,20}+(?: [!\"$-~]*+(?: [HTP/1.0]*+(?:\r(?:\n(?:[^ \t].*+)?)?)?)?)?|\r", re.S
)
"""Matches the valid beginnings of a head. An incomplete first segment that does not match is
refused at once; later segments are checked when the head is complete."""
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
        self.accept = b""
        """The request's Accept, if its head was received."""


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


def parse_head(method: bytes, target: bytes, minor: bytes, lines: bytes, max_head: int) -> Request:
    """Parse a head.

    Raises:
        RequestError: it is larger than `max_head`, ambiguous, or not supported.
    """
    try:
        return _parse_head(method, target, minor, lines, max_head)
    except RequestError as error:
        error.accept = dict(_headers(lines)).get(b"accept", b"")
        raise


def _parse_head(method: bytes, target: bytes, minor: bytes, lines: bytes, max_head: int) -> Request:
    count = lines.count(b"\r\n")
    size = len(target) + len(lines) + HEADER_OVERHEAD * count
    if size > max_head:
        raise head_too_large(max_head)
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


def head_too_large(max_head: int) -> RequestError:
    return RequestError(431, f"The header is larger than {max_head} bytes")
