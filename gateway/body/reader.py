"""Reads request bodies: checks the size, then the content type, then reads by a deadline."""

import asyncio
import re
import time
from collections.abc import Collection

from starlette.requests import Request

from gateway.body.compression import decompress
from gateway.body.json import BODY, BodyError
from service.compression import CODINGS, DecompressedTooLargeError
from service.http.errors import ApiError, unavailable
from service.memory_budget import MemoryBudget, Reservation

Headers = dict[bytes, bytes]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"

_requests = MemoryBudget(32 * 1024 * 1024)
"""Shared by the requests of the process. Submissions, batches and bulk registrations have their own
budgets."""
_UTF_8 = re.compile(rb"(?:;\s*+charset=(?:utf-8|\"utf-8\")\s*+)?+;?+\s*+", re.IGNORECASE)
"""The parameters of a media type. Possessive quantifiers prevent quadratic backtracking."""
_NAMES = {JSON: "application/json", NDJSON: "application/x-ndjson"}


async def read_body(request: Request, limit: int, deadline: float) -> bytes:
    """Read a JSON body of at most `limit` bytes; `deadline` is on the monotonic clock.

    Raises:
        ApiError: 413 or 415; 408 if the body does not arrive by the deadline; 400 if it is
            truncated.
        BudgetExceededError: there is no capacity for it.
    """
    with _requests.reserve() as reservation:
        _, body = await _read_typed(request, limit, deadline, (JSON,), (), reservation)
        return body


async def read_compressible_body(
    request: Request,
    limit: int,
    deadline: float,
    types: Collection[bytes] = (JSON,),
    *,
    reservation: Reservation,
) -> tuple[bytes, bytes]:
    """Read a body that may be compressed; return its content type, one of `types`, and the body.

    `limit` applies to the received and to the decompressed size; both are added to `reservation`.

    Raises:
        ApiError: as `read_body`; also 400 if the compressed data is damaged.
        BudgetExceededError: as `read_body`.
    """
    return await _read_typed(request, limit, deadline, types, CODINGS, reservation)


def has_body(request: Request) -> bool:
    """Return whether the request declares a body."""
    headers = dict(request.scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def _read_typed(
    request: Request,
    limit: int,
    deadline: float,
    types: Collection[bytes],
    codings: Collection[bytes],
    reservation: Reservation,
) -> tuple[bytes, bytes]:
    headers = dict(request.scope["headers"])
    if _declared_length(headers) > limit:
        raise _too_large(limit)
    type = _content_type(request, headers, types)
    coding = _coding(request, headers, codings)
    body = await _read(request, limit, deadline, reservation)
    # The size of a chunked body is known only now, and 413 takes precedence over 415.
    if type is None or coding is None:
        raise _unsupported(types, codings)
    if coding == b"":
        return type, body
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return type, await decompress(coding, body, limit, reservation)
    except TimeoutError as error:
        raise unavailable("Decompression did not finish in time: try again") from error
    except DecompressedTooLargeError as error:
        raise _too_large(limit) from error


def _declared_length(headers: Headers) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError as error:
        raise ApiError(400, "Content-Length is not a number") from error


def _content_type(request: Request, headers: Headers, types: Collection[bytes]) -> bytes | None:
    given = headers.get(b"content-type", b"")
    if _count_bytes(request, b"content-type") != 1:
        return None
    for type in types:
        if given[: len(type)].lower() == type and _UTF_8.fullmatch(given[len(type) :]):
            return type
    return None


def _coding(request: Request, headers: Headers, codings: Collection[bytes]) -> bytes | None:
    """Return the body's single coding; empty if there is none, None if it is not supported."""
    if b"content-encoding" not in headers:
        return b""
    coding = headers[b"content-encoding"].strip().lower()
    if not codings or _count_bytes(request, b"content-encoding") != 1:
        return None
    if coding == b"identity":
        return b""
    return coding if coding in codings else None


def _count_bytes(request: Request, header: bytes) -> int:
    return sum(name == header for name, _ in request.scope["headers"])


def _unsupported(types: Collection[bytes], codings: Collection[bytes]) -> ApiError:
    names = " or ".join(_NAMES[type] for type in types)
    if not codings:
        return ApiError(415, f"The body must be {names} in UTF-8, not compressed")
    return ApiError(
        415, f"The body must be {names} in UTF-8, optionally compressed with gzip or zstd"
    )


async def _read(request: Request, limit: int, deadline: float, reservation: Reservation) -> bytes:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await _read_all(request, limit, reservation)
    except TimeoutError as error:
        raise ApiError(408, "The body did not arrive in time") from error


async def _read_all(request: Request, limit: int, reservation: Reservation) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BodyError(BODY, "is truncated")
        chunk = message.get("body", b"")
        reservation.add(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit} bytes")
