"""Everything that reads untrusted input takes linear time.

Each function gets its worst inputs of 16 and of 64 KiB, and the ratio of CPU times is bounded: it
is 4 where time is linear, and 16 where it is quadratic.
"""

import asyncio
import functools
import importlib
import math
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request

import contract
import exporter
import gateway
import service
import tobogganing
from contract.kinds import KINDS, character_fault, replace_refused
from contract.position import Receipt
from exporter.receipts.status import parse_receipt
from gateway.api.certificates import host_of
from gateway.auth.csr import read_request
from gateway.auth.jwt import is_token
from gateway.body.arrays import split_array
from gateway.body.json import _fault
from gateway.body.reader import read_body
from gateway.ingest.backfill import BackfillDecoder
from gateway.ingest.batch_decoder import BatchDecoder, split_lines
from gateway.ingest.decoder import BodyDecoder
from service.http.bearer_auth import parse_bearer
from service.http.connection.request_parser import RequestParser
from service.metrics.exposition import negotiate
from tests.pumps import pumps

LARGE = 65_536
SMALL = LARGE // 4
MAX_RATIO = 8
"""Between linear and quadratic."""
AT_LEAST = 0.02
"""Seconds of CPU time below which 64 KiB are not compared: quadratic time is more, even where one
step takes 0.01 ns."""
MEASURED = 0.004
"""Seconds of CPU time that a measurement takes at least, by repeating it."""

Scan = Callable[[Any], object]


def seconds(scan: Scan, input: str | bytes) -> float:
    """CPU time of one scan: the least of three measurements that are long enough."""
    best = math.inf
    for _ in range(3):
        count, began = 0, time.thread_time()
        while count == 0 or time.thread_time() - began < MEASURED:
            scan(input)
            count += 1
        best = min(best, (time.thread_time() - began) / count)
    return best


def once(scan: Scan, input: str | bytes) -> float:
    began = time.thread_time()
    scan(input)
    return time.thread_time() - began


def require_linear(scan: Scan, make: Callable[[int], str | bytes]) -> None:
    """Fail if 4 times the input takes more than MAX_RATIO times as long."""
    small, large = make(SMALL), make(LARGE)
    first = once(scan, large)
    if first < AT_LEAST or first < MAX_RATIO * seconds(scan, small):
        return
    ratios = []
    for _ in range(3):  # a noisy machine may disturb one
        ratios.append(seconds(scan, large) / seconds(scan, small))
        if ratios[-1] < MAX_RATIO:
            return
    raise AssertionError(f"{large[:80]!r}…: 4 times as much takes {min(ratios):.1f} times as long")


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


EXEMPT = {
    "gateway.auth.ca._BLOCK": "CA_PEM: the operator's own",
    "service.config.spelling._OF_OTHERS": "names of environment variables: the operator's own",
    "service.http.connection.request_head._FIELD": "lines matched by _HEAD, so with a colon",
}
"""Patterns that never read untrusted bytes, and what they read."""


def patterns() -> dict[str, "re.Pattern[Any]"]:
    """Every compiled pattern of the packages that read untrusted input, by its name."""
    return {
        f"{module.__name__}.{name}": value
        for package in (contract, service, gateway, exporter, tobogganing)
        for module in modules(package)
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


SEARCHED = {
    "contract.kinds._CHARACTER",
    "gateway.body.arrays._BETWEEN_OBJECTS",
    "gateway.ingest.decoder._STRING",
    "gateway.body.json._QUOTED",
    "gateway.ingest.batch_decoder._LINE",
    "gateway.ingest.batch_decoder._SEPARATOR",
    "gateway.api.openapi._PATH_PARAMETER",
}
"""Patterns that are searched for from every position; all others are matched from one."""


@pytest.mark.parametrize("name", sorted(patterns().keys() - EXEMPT.keys()))
def test_a_pattern_takes_linear_time(name: str) -> None:
    pattern = patterns()[name]
    is_text = isinstance(pattern.pattern, str)

    def scan(input: str | bytes) -> object:
        if name in SEARCHED:
            return pattern.sub("" if is_text else b"", input)
        return pattern.match(input), pattern.fullmatch(input)

    for prefix, pump, end in pumps(pattern):

        def make(size: int, prefix: str = prefix, pump: str = pump, end: str = end) -> str | bytes:
            text = prefix + pump * (size // len(pump)) + end
            return text if is_text else text.encode("latin-1")

        require_linear(scan, make)


@pytest.mark.parametrize(
    "pattern",
    [
        rb"(;\s*charset=(utf-8|\"utf-8\")\s*)?;?\s*",
        rb"(?s)(?P<fault>.*?)(?: - at `\$\.?(?P<path>.*)`)?\n",
        rb"[a-z]+[a-z.]+!",
    ],
)
def test_a_pattern_that_is_not_linear_is_found(pattern: bytes) -> None:
    """The derived inputs find the faults of earlier versions."""
    compiled = re.compile(pattern)
    for prefix, pump, end in pumps(compiled):
        small, large = ((prefix + pump * (n // len(pump)) + end).encode() for n in (1_000, 4_000))
        if once(compiled.fullmatch, large) < AT_LEAST / 10:
            continue
        if seconds(compiled.fullmatch, large) > MAX_RATIO * seconds(compiled.fullmatch, small):
            return
    raise AssertionError("none of the inputs takes long")


def quiet(scan: Scan) -> Scan:
    """Return the same scan without its exceptions: refused input is expected."""

    @functools.wraps(scan)
    def scanning(input: Any) -> object:
        try:
            return scan(input)
        except Exception as error:  # each scan has its own errors
            return error

    return scanning


CLIENT = KINDS["client"]
body_decoder, backlog_decoder, items_decoder = (
    BodyDecoder(CLIENT),
    BackfillDecoder(CLIENT, BodyDecoder(CLIENT)),
    BatchDecoder(),
)


def request_of(headers: list[tuple[bytes, bytes]]) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope, receive)


def read_with_type(value: bytes) -> object:
    return asyncio.run(read_body(request_of([(b"content-type", value)]), LARGE, math.inf))


def negotiated(value: bytes) -> object:
    return negotiate(request_of([(b"accept", value), (b"accept-encoding", value)]))


def sample(body: bytes) -> object:
    read = backlog_decoder.decode(b'{"samples":[%b]}' % body, 0.0)
    return list(read)  # type: ignore[arg-type]


class _Handler:
    """Receives requests and does nothing with them."""

    def on_request(self, request: object, body: bytes | None, /) -> bool:
        return body is not None

    def on_body(self, body: bytes, /) -> None: ...

    def on_message_complete(self) -> None: ...


def parse(data: bytes) -> None:
    RequestParser(_Handler(), 2 * LARGE).feed(data)


SCANS: dict[str, Scan] = {
    "request": parse,
    "submission": lambda body: body_decoder.decode(body, 0.0),
    "backlog": lambda body: list(backlog_decoder.decode(body, 0.0)),  # type: ignore[arg-type]
    "sample": sample,
    "array": lambda body: list(items_decoder.decode_array(body, 0.0)),
    "lines": lambda body: list(items_decoder.decode_lines(body, 0.0)),
    "split array": lambda body: list(split_array(body)),
    "split lines": lambda body: list(split_lines(body)),
    "content type": read_with_type,
    "accept": negotiated,
    "bearer": parse_bearer,
    "token": lambda text: is_token(text.decode("latin-1")),
    "address": lambda text: host_of(text.decode("latin-1")),
    "certificate request": lambda text: read_request(text.decode("latin-1")),
    "receipt": lambda text: parse_receipt(text.decode("latin-1")),
    "position": lambda text: Receipt.parse(text.decode("latin-1")),
    "name": lambda text: character_fault(text.decode("latin-1")),
    "old name": lambda text: replace_refused(text.decode("latin-1")),
    "fault": lambda text: _fault(text.decode("latin-1")),
}
HEADS = [
    b"",
    b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b'"',
    b"[",
    b'{"metrics":{',
    b'{"metrics":{"x":',
    b'{"samples":[{"timestamp":1,"metrics":{',
    b'[{"kind":"client","id":"a","metrics":{',
    b'{"kind":"client","id":"a","metrics":{',
    b":" * 1_001,
    b'{"metrics":{' + b'"x":1,' * 1_001,
    b"application/json; charset=utf-8",
    b"Bearer ey",
    b"http://",
    b"-----BEGIN CERTIFICATE REQUEST-----",
]
PIECES = [
    *(bytes([byte]) for byte in b' \t\r\n"\\[{:,;.-`1a/\xff'),
    *(b'\\"', b'":"', b'"a":1,', b'"bytes_sent":1,', b'"metrics":{},', b"{},", b"},{", b'"",'),
    *(b" - at `$ ", b"e30.", b"a.", b"q=1,", b"a;q=1;", b"0-", b"-----BEGIN X-----"),
    *(b"a: b\r\n", b"connection: a,\r\n", b"1\r\na\r\n", b"1;", b"\r\n\r\n"),
    *(b'{"":', b"1\n", b"{}\n", b"\\u0041", b"1e", b"%41", b"::", b"//"),
]
ENDS = [b"x", b'"}}]']


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_takes_linear_time(name: str) -> None:
    scan = quiet(SCANS[name])
    for head in HEADS:
        for piece in PIECES:
            for end in ENDS:

                def make(
                    size: int, head: bytes = head, piece: bytes = piece, end: bytes = end
                ) -> bytes:
                    return head + piece * ((size - len(head) - len(end)) // len(piece)) + end

                require_linear(scan, make)
