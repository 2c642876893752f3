"""Errors as RFC 9457 problem details, for requests whose `Accept` asks for them.

Every error of the API is a JSON object with `error` and perhaps further members. As a problem,
`error` becomes `detail`; further members stay, as extension members.
"""

from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.accept import parse_accept

PROBLEM = b"application/problem+json"
_JSON = b"application/json"


def wants_problem(accept: bytes) -> bool:
    """Whether an `Accept` names problem details, and does not prefer plain JSON."""
    if PROBLEM not in accept.lower():
        return False
    weights = {name: weight for name, _, weight in parse_accept(accept.decode("latin-1"))}
    wanted = weights.get(PROBLEM.decode(), 0.0)
    return wanted > 0 and wanted >= weights.get(_JSON.decode(), 0.0)


def as_problem(status: int, body: bytes) -> bytes:
    """Encode an error of the API, a JSON object, as a problem."""
    members: dict[str, Any] = orjson.loads(body)
    detail = members.pop("error", "")
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return orjson.dumps(members | problem)


def problem_details(app: ASGIApp) -> ASGIApp:
    """Convert the errors of an application for requests that ask for problem details."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        accept = b",".join(v for n, v in scope.get("headers", ()) if n == b"accept")
        if not wants_problem(accept):
            await app(scope, receive, send)
            return
        start: Message | None = None

        async def convert(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_error(message):
                start = message
                return
            if start is not None:
                body = as_problem(start["status"], message["body"])
                headers = [each for each in start["headers"] if each[0] not in _REPLACED]
                length = (b"content-length", str(len(body)).encode())
                headers += [(b"content-type", PROBLEM), length, (b"vary", b"Accept")]
                await send({**start, "headers": headers})
                start, message = None, {**message, "body": body}
            await send(message)

        await app(scope, receive, convert)

    return wrapped


_REPLACED = (b"content-type", b"content-length")


def _is_error(message: Message) -> bool:
    """Whether a response is an error of the API; it has its body in one message."""
    return message["status"] >= 400 and (b"content-type", _JSON) in message["headers"]
