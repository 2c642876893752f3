"""What the endpoints of the API have in common."""

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.schemas import Registered
from gateway.auth.actors import ActorAuthenticator
from gateway.body.json import StructDecoder
from gateway.body.reader import read_body
from gateway.metrics import GatewayMetrics
from gateway.registry.audit_log import ADMIN, AuditLog
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.http.application import Handler
from service.http.errors import JSON
from service.metrics.requests import address_of

B = TypeVar("B", bound=msgspec.Struct)


class RequestContext(NamedTuple):
    """The deadline of a response (on the monotonic clock), the request's sender, and its action."""

    deadline: float
    address: str
    actor: str = ADMIN
    action: str = "register"


class ApiParts(NamedTuple):
    """The parts of a gateway that its endpoints use."""

    settings: GatewaySettings
    registry: RegistryWriter
    authenticator: ActorAuthenticator
    audit_log: AuditLog
    metrics: GatewayMetrics


class ApiEndpoints:
    """Base class of endpoints."""

    def __init__(self, parts: ApiParts) -> None:
        self._answer_within = parts.settings.answer_within_seconds
        self._max_body = parts.settings.max_body_bytes
        self._registry = parts.registry
        self._authenticator = parts.authenticator
        self._audit_log = parts.audit_log
        self._metrics = parts.metrics

    def _deadline(self) -> float:
        """Return the deadline of a request that arrives now, on the monotonic clock."""
        return time.monotonic() + self._answer_within

    def _creating(
        self, body_type: type[B], create: Callable[[B, RequestContext], Awaitable[Registered]]
    ) -> Handler:
        """Return the handler of requests by which the administrator creates something."""
        decoder = StructDecoder(body_type)

        async def handle(request: Request) -> Response:
            context = RequestContext(self._deadline(), address_of(request.scope))
            self._authenticator.check_admin(request)
            content = await read_body(request, self._max_body, context.deadline)
            self._authenticator.check_admin(request, again=True)
            response = await create(decoder.decode(content), context)
            response.ignored = decoder.unknown_fields(content) or UNSET
            return JSON(msgspec.to_builtins(response))

        return handle
