"""The request parser, compared with h11 as a strict reference, on the same bytes.

The parser must never see more or other requests than h11, however the bytes are segmented:
otherwise part of one request could be taken for another one. Where it sees less, the connection is
closed.
"""

import asyncio
import functools
import itertools
import re
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.connection.fast_path import FastPathExchange, RawHeaders
from service.http.connection.protocol import LimitedProtocol
from service.http.server import server_config
from tests.fuzz.connection import Transport, answers
from tests.fuzz.reference import ReferenceResult, reference
from tests.fuzz.virtual import VirtualLoop

OVER = 200.0
"""Seconds after which any connection must have ended."""


class FramingResult(NamedTuple):
    seen: list[ReferenceResult]
    statuses: list[int]
    refusals: int
    """Number of responses which show that no request was read."""


class Recorder:
    """Responds with 200 to all requests, through the fast path or ASGI, and records them."""

    def __init__(self, *, fast_path: bool) -> None:
        self.seen: list[ReferenceResult] = []
        self.fast_path_count = 0
        self._paths: dict[str, int] = {}
        if fast_path:
            self.fast_path = self._take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"]
        assert scope["path"].encode() == scope["raw_path"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        self.seen.append(
            ReferenceResult(scope["method"].encode(), target, tuple(scope["headers"]), body)
        )
        length = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body"})

    def _take(
        self, target: bytes, fields: RawHeaders, body: bytes, exchange: FastPathExchange
    ) -> bool:
        self.fast_path_count += 1
        self.seen.append(
            ReferenceResult(b"POST", target.removesuffix(b"?"), tuple(fields.items()), body)
        )
        exchange.respond(200, b"")
        return True


class Ours:
    """The protocol under test, on one connection after the other."""

    def __init__(self, *, fast_path: bool) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.recorder = Recorder(fast_path=fast_path)
        self._config = server_config(
            self.recorder, HttpSettings(metrics_token=ReloadableTokens("m"))
        )
        self._config.load()
        self._state = ServerState()

    def see(self, *pieces: bytes, ends: bool = False) -> FramingResult:
        """Return the requests and responses for this input, after the connection has ended."""
        self.recorder.seen.clear()
        transport = self.loop.run_until_complete(self._send(pieces, ends))
        assert not self.loop.faults, self.loop.faults
        assert transport.is_lost
        assert not self._state.connections
        assert not self._state.tasks
        statuses = [answer.status for answer in answers(bytes(transport.written))]
        return FramingResult([*self.recorder.seen], statuses, sum(each != 200 for each in statuses))

    async def _send(self, pieces: tuple[bytes, ...], ends: bool) -> Transport:
        protocol = LimitedProtocol(self._config, self._state, {}, self.loop)
        transport = Transport(self.loop, protocol)
        protocol.connection_made(transport)
        for piece in pieces:
            transport.feed(piece)
            await asyncio.sleep(0.001)
        if not ends:
            await asyncio.sleep(OVER)
        transport.end()  # more than any test sends, so a body may be incomplete
        await asyncio.sleep(OVER)
        return transport


@functools.cache
def ours(fast_path: bool) -> Ours:
    return Ours(fast_path=fast_path)


def alike(request: ReferenceResult) -> ReferenceResult:
    """A request in a form common to both parsers, without obsolete header folding."""
    target = request.target
    if re.match(rb"(?i)https?://", target):
        parts = urlsplit(target)
        target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
    target = target.removesuffix(b"?") if target.count(b"?") == 1 else target
    lower = (b"transfer-encoding",)
    headers = [(n, v.lower() if n in lower else v) for n, v in request.headers]
    return ReferenceResult(request.method, target, tuple(headers), request.body)


def require_no_more(result: FramingResult, data: bytes) -> None:
    """The protocol saw the same requests, or the first of them, and sent one response to each."""
    expected = [alike(each) for each in reference(data)]
    seen = [alike(each) for each in result.seen]
    assert seen == expected[: len(seen)], (data, seen, expected)
    assert result.statuses[: len(seen)] == [200] * len(seen)
    assert len(result.statuses) - len(seen) <= 1, "more responses than requests"
    assert result.refusals == len(result.statuses) - len(seen)


def post(*headers: bytes, body: bytes = b'{"a":1}', target: bytes = b"/take") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (target, lines, length, body)


def chunked(*headers: bytes, chunks: bytes = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n") -> bytes:
    lines = b"".join(header + b"\r\n" for header in (*headers, b"Transfer-Encoding: chunked"))
    return b"POST /take HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (lines, chunks)


GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
INNER = b"GET /-/inner HTTP/1.1\r\nHost: inner\r\n\r\n"
JDK = b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"
UPGRADES = (
    (b"Connection: Upgrade", b"Upgrade: websocket"),
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", JDK),
    (b"Connection: Upgrade", b"Upgrade: TLS/1.2"),
    (b"Connection: keep-alive, upgrade", b"Upgrade: x, y"),
    (b"Upgrade: x", b"Connection: upgrade"),
)


def one_chunk(*offer: bytes) -> bytes:
    return chunked(*offer, chunks=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER))


GOOD: dict[str, bytes] = {
    "get": GET + GET,
    "the same head again": post() + post(body=b'{"b":2}') + post(),
    "the same head again after another": chunked() + chunked() + GET + chunked() + GET,
    "post": post() + GET,
    "no body": post(body=b"") + GET,
    "chunked": chunked() + GET,
    "empty lines": b"\r\n" + GET + b"\r\n" + post() + b"\r\n",
    "odd spaces": post(b"X:y", b"Y: \t z \t", b"Z:", b"W: a  b") + GET,
    "the same header twice": post(b"X: 1", b"X: 2") + GET,
    "absolute": GET.replace(b"/quick", b"http://x/quick?y")
    + GET.replace(b"/quick", b"http://x:80"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" + GET,
    "expect": post(b"Expect: 100-continue") + GET,
    "connection: close": post(b"Connection: close") + GET,
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n" + GET,
    "trailers": chunked(
        chunks=b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
    )
    + GET,
    "a body that is a request": post(body=INNER) + GET,
    "chunks that are requests": chunked(chunks=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER))
    + GET,
    "large chunk size": chunked(chunks=b"000000000000001\r\na\r\n0000\r\n\r\n") + GET,
    "obs-text": post(b"X: \xe9\xff") + GET,
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n" + GET,
    **{
        f"upgrade {number}, {name}": request + GET
        for number, offer in enumerate(UPGRADES)
        for name, request in {
            "no body": GET[:-2] + b"\r\n".join(offer) + b"\r\n\r\n",
            "length": post(*offer, body=INNER),
            "chunked": one_chunk(*offer),
        }.items()
    },
}

BAD: dict[str, bytes] = {
    "two empty lines": b"\r\n\r\n" + GET,
    "a long host": GET.replace(b"Host: x", b"Host: " + b"x" * 271),
    "two lengths": post(b"Content-Length: 3"),
    "the same length twice": post(b"Content-Length: 7"),
    "a list of lengths": post().replace(b": 7", b": 7, 7"),
    "a signed length": post().replace(b": 7", b": +7"),
    "a negative length": post().replace(b": 7", b": -7"),
    "a length in hex": post().replace(b": 7", b": 0x7"),
    "an empty length": post().replace(b": 7", b": "),
    "a length above 2^64": post().replace(b": 7", b": 18446744073709551623"),
    "length and chunked": chunked(b"Content-Length: 3"),
    "chunked and length": post(b"Transfer-Encoding: chunked"),
    "gzip, chunked": chunked().replace(b": chunked", b": gzip, chunked"),
    "chunked, gzip": chunked().replace(b": chunked", b": chunked, gzip"),
    "chunked twice": chunked(b"Transfer-Encoding: chunked"),
    "identity": chunked().replace(b": chunked", b": identity"),
    "xchunked": chunked().replace(b": chunked", b": xchunked"),
    "chunked in HTTP/1.0": chunked().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a space before the colon": chunked().replace(b"Encoding:", b"Encoding :"),
    "a folded header": chunked(b"X: y\r\n z"),
    "a folded coding": chunked().replace(b": chunked", b":\r\n chunked"),
    "a space before the first header": GET.replace(b"\r\nHost", b"\r\n Host"),
    "a line without a colon": GET.replace(b"Host: x", b"Host: x\r\nX"),
    "an empty name": GET.replace(b"Host: x", b"Host: x\r\n: y"),
    "bare LF": GET.replace(b"\r\n", b"\n"),
    "bare LF after a header": post(b"X: y\nZ: w"),
    "bare CR in a header": post(b"X: y\rZ: w"),
    "NUL in a header": post(b"X: y\x00"),
    "NUL in a name": post(b"X\x00: y"),
    "NUL in the target": post(target=b"/a\x00b"),
    "a control character": post(b"X: \x0b"),
    "two spaces": GET.replace(b"GET ", b"GET  "),
    "a tab": GET.replace(b"GET ", b"GET\t"),
    "a space in the target": GET.replace(b"/quick", b"/qui ck"),
    "a fragment": GET.replace(b"/quick", b"/quick#x"),
    "RTSP": GET.replace(b"HTTP/1.1", b"RTSP/1.0"),
    "HTTP/1.2": GET.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/2.0": GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /quick\r\n\r\n",
    "a method in lower case": GET.replace(b"GET", b"get"),
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + INNER,
    "CONNECT of a path": b"CONNECT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + INNER,
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": post(b"Host: y"),
    "a host with a path": GET.replace(b"Host: x", b"Host: x/y"),
    "a host with a user": GET.replace(b"Host: x", b"Host: u@x"),
    "two hosts in one": GET.replace(b"Host: x", b"Host: x, y"),
    "a target with a user": GET.replace(b"/quick", b"http://u@x/"),
    "a target without a scheme": GET.replace(b"/quick", b"x"),
    "a chunk size above 2^64": chunked(chunks=b"ffffffffffffffffff\r\n"),
    "an invalid chunk size": chunked(chunks=b"zz\r\n"),
    "a chunk size with a sign": chunked(chunks=b"+3\r\nabc\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunked(chunks=b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a chunk size with a space": chunked(chunks=b"3 \r\nabc\r\n0\r\n\r\n"),
    "a chunk size with LF": chunked(chunks=b"3\nabc\r\n0\r\n\r\n"),
    "a chunk extension with LF": chunked(chunks=b"3;x\nabc\r\n0\r\n\r\n"),
    "a chunk without its end": chunked(chunks=b"3\r\nabcd\r\n0\r\n\r\n"),
    "a chunk that ends in LF": chunked(chunks=b"3\r\nabc\n0\r\n\r\n"),
    "an invalid trailer": chunked(chunks=b"0\r\nX y\r\n\r\n"),
    "a folded trailer": chunked(chunks=b"0\r\nX: y\r\n z\r\n\r\n"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "plain text": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("fast_path", [False, True], ids=["ASGI", "fast path"])
@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_valid_requests_are_parsed_like_the_reference_in_any_segmentation(
    data: bytes, fast_path: bool
) -> None:
    expected = [alike(each) for each in reference(data)]
    assert expected
    for cut in range(len(data)):
        result = ours(fast_path).see(data[:cut], data[cut:])
        assert [alike(each) for each in result.seen] == expected, cut
        assert result.statuses == [200] * len(expected), cut


@pytest.mark.parametrize("fast_path", [False, True], ids=["ASGI", "fast path"])
@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_invalid_requests_are_refused_and_later_input_is_ignored(
    data: bytes, fast_path: bool
) -> None:
    for cut in range(len(data)):
        result = ours(fast_path).see(data[:cut], data[cut:] + INNER)
        assert result.seen == [], cut
        assert result.statuses == [400], cut
    before = ours(fast_path).see(post() + data + INNER)
    assert [each.body for each in before.seen] == [b'{"a":1}']
    assert before.statuses[0] == 200
    assert before.statuses[1:] in ([], [400])


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_complete_requests_are_answered_after_eof(data: bytes) -> None:
    for fast_path in (False, True):
        for cut in range(1, len(data) + 1):
            expected = reference(data[:cut])
            result = ours(fast_path).see(data[:cut], ends=True)
            assert len(result.seen) == len(expected), cut
            assert result.statuses == [200] * len(expected), cut


PARTS = st.sampled_from(
    [
        *GOOD.values(), *BAD.values(), b"\r\n", b"\n", b"\r", b" ", b"\t", b"0\r\n\r\n", b"\x00",
        b"#", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n",
        b"Connection: upgrade\r\n", b"Connection: close\r\n", b"Host: y\r\n", b"HTTP/1.1",
        b"HTTP/1.0",        b"GET ", b"POST ", b"CONNECT ", b":", b";", b"5\r\n", b"http://",
    ]
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(0, 12), PARTS | st.binary(max_size=3)), max_size=3
)


@settings(max_examples=1_500, derandomize=True, database=None, deadline=None)
@given(
    st.lists(PARTS, min_size=1, max_size=3),
    EDITS,
    st.lists(st.integers(0, 2_000), max_size=4),
    st.booleans(),
    st.booleans(),
)
@example([GET], [], [], False, False)
def test_no_input_yields_more_requests_than_the_reference(
    parts: list[bytes],
    edits: list[tuple[int, int, bytes]],
    cuts: list[int],
    fast_path: bool,
    ends: bool,
) -> None:
    data = b"".join(parts)
    for place, length, piece in edits:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    whole = ours(fast_path).see(data, ends=ends)
    require_no_more(whole, data)
    assert ours(fast_path).see(*pieces, ends=ends).seen == whole.seen


def test_the_reference_is_strict() -> None:
    """The reference rejects invalid input, except where it is known to be lenient."""
    lenient = {
        *("the same length twice", "a list of lengths", "length and chunked"),
        *("chunked in HTTP/1.0", "a folded header", "a folded coding", "a folded trailer"),
        *("bare LF", "bare LF after a header", "a chunk size with a space", "a fragment"),
        *("HTTP/1.2", "HTTP/2.0", "HTTP/2", "a method in lower case", "CONNECT"),
        *("CONNECT of a path", "a host with a path", "a host with a user", "two hosts in one"),
        *("a target with a user", "a target without a scheme"),
        *("two empty lines", "a long host"),
    }
    for name, data in BAD.items():
        assert (reference(data) == []) == (name not in lenient), name


@pytest.mark.parametrize("fast_path", [True, False])
def test_plain_posts_use_the_path_under_test(fast_path: bool) -> None:
    ours = Ours(fast_path=fast_path)
    ours.see(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ends=True)
    assert len(ours.recorder.seen) == 1
    assert ours.recorder.fast_path_count == fast_path
