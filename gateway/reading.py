"""Reading request bodies: size first, then content type, then the bytes, by a deadline."""

import asyncio
import re
import time

from starlette.requests import Request

from gateway.decoding import BODY, BodyError
from service.http import ApiError

Headers = dict[bytes, bytes]

_JSON = re.compile(rb"application/json\s*(;\s*charset=(utf-8|\"utf-8\")\s*)?;?\s*", re.IGNORECASE)


async def read_body(request: Request, limit: int, deadline: float) -> bytes:
    """Read a JSON body of at most `limit` bytes; `deadline` is on the monotonic clock.

    Raises:
        ApiError: 413 or 415; 408 if the body does not arrive by the deadline; 400 if it ends early.
    """
    headers = dict(request.scope["headers"])
    if _declared_length(headers) > limit:
        raise _too_large(limit)
    if not _is_json(headers) or _count(request, b"content-type") > 1:
        await _read(request, limit, deadline)  # a chunked body shows only now that it is too large
        raise ApiError(415, "The body must be application/json, in UTF-8 and not compressed")
    return await _read(request, limit, deadline)


def has_body(request: Request) -> bool:
    """Tell whether the request says that it has a body."""
    headers = dict(request.scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def invalid(error: BodyError) -> ApiError:
    """The answer to a body that is not what the endpoint takes."""
    return ApiError(400, str(error), field=error.field)


def _declared_length(headers: Headers) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError as error:
        raise ApiError(400, "Content-Length is not a number") from error


def _is_json(headers: Headers) -> bool:
    content_type = headers.get(b"content-type", b"")
    return (
        content_type == b"application/json" or _JSON.fullmatch(content_type) is not None
    ) and b"content-encoding" not in headers


def _count(request: Request, header: bytes) -> int:
    return sum(name == header for name, _ in request.scope["headers"])


async def _read(request: Request, limit: int, deadline: float) -> bytes:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await _read_all(request, limit)
    except TimeoutError as error:
        raise ApiError(408, "The body did not arrive in time") from error


async def _read_all(request: Request, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise invalid(BodyError(BODY, "ends early"))
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit} bytes")
