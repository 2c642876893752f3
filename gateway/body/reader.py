"""Reading request bodies: size first, then content type, then the bytes, by a deadline."""

import asyncio
import re
import time
from collections.abc import Collection

from starlette.requests import Request

from gateway.body.compression import CODINGS, DecompressedTooLargeError, decompress
from gateway.body.json import BODY, BodyError
from gateway.body.memory_budget import BudgetExceededError, MemoryBudget, Reservation
from service.http.errors import ApiError, unavailable

Headers = dict[bytes, bytes]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"

_requests = MemoryBudget(32 * 1024 * 1024)
"""For the bodies of all requests that are neither submissions nor batches, of the whole process."""
_UTF_8 = re.compile(rb"(?:;\s*+charset=(?:utf-8|\"utf-8\")\s*+)?+;?+\s*+", re.IGNORECASE)
"""The parameters of a media type. Possessive: backtracking through the spaces is quadratic."""
_NAMES = {JSON: "application/json", NDJSON: "application/x-ndjson"}


async def read_body(request: Request, limit: int, deadline: float) -> bytes:
    """Read a JSON body of at most `limit` bytes; `deadline` is on the monotonic clock.

    Raises:
        ApiError: 413 or 415; 408 if the body does not arrive by the deadline; 400 if it ends early;
            503 if too much is being read.
    """
    try:
        with _requests.reserve() as reservation:
            _, body = await _read_typed(request, limit, deadline, (JSON,), (), reservation)
            return body
    except BudgetExceededError as error:
        raise overloaded() from error


async def read_compressible_body(
    request: Request,
    limit: int,
    deadline: float,
    types: Collection[bytes] = (JSON,),
    *,
    reservation: Reservation,
) -> tuple[bytes, bytes]:
    """Read a body that may be compressed; return its content type, one of `types`, and the body.

    `limit` holds for what arrives and for what it unpacks to; both are `reservation`.

    Raises:
        ApiError: as `read_body`; 400 too where what is compressed is damaged.
        FullError: there is no room; the answer is `overloaded`.
    """
    return await _read_typed(request, limit, deadline, types, CODINGS, reservation)


def overloaded() -> ApiError:
    """The answer to a body for which there is no room."""
    return unavailable("Too much is being received: try again")


def has_body(request: Request) -> bool:
    """Tell whether the request says that it has a body."""
    headers = dict(request.scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def bad_request(error: BodyError) -> ApiError:
    """The answer to a body that is not what the endpoint takes."""
    return ApiError(400, str(error), field=error.field)


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
    # A chunked body shows only now that it is too large, which comes before its type.
    if type is None or coding is None:
        raise _unsupported(types, codings)
    if coding == b"":
        return type, body
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return type, await decompress(coding, body, limit, reservation)
    except TimeoutError as error:
        raise unavailable("Other bodies are unpacked before this one: try again") from error
    except DecompressedTooLargeError as error:
        raise _too_large(limit) from error
    except BodyError as error:
        raise bad_request(error) from error


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
    """The body's one coding; empty where there is none, None where it is not taken here."""
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
        return ApiError(415, f"The body must be {names}, in UTF-8 and not compressed")
    return ApiError(
        415, f"The body must be {names}, in UTF-8, and not compressed or in gzip or zstd"
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
            raise bad_request(BodyError(BODY, "ends early"))
        piece = message.get("body", b"")
        reservation.add(len(piece))
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit} bytes")
