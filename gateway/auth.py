"""`POST /api/v1/auth/token`: a node's API key for a token."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.credentials import Credentials
from gateway.decoding import BodyError, JsonDecoder
from gateway.limits import Limits
from gateway.metrics import GatewayMetrics
from gateway.reading import invalid, read_body
from gateway.registrations import (
    NODE_KINDS,
    TokenIssued,
    TokenRequest,
    require_id,
    require_one_of,
    rfc3339,
)
from gateway.settings import GatewaySettings
from gateway.tokens import NoKeyError, Tokens
from service.http import JSON, TemplateRoute, route, unavailable
from service.requests import endpoint_of


class TokenEndpoint:
    """Issues tokens to nodes that prove themselves by their API key, which is in the body."""

    def __init__(
        self,
        settings: GatewaySettings,
        credentials: Credentials,
        tokens: Tokens,
        limits: Limits,
        metrics: GatewayMetrics,
    ) -> None:
        self._answer_within = settings.answer_within_seconds
        self._max_body = settings.max_body_bytes
        self._credentials = credentials
        self._tokens = tokens
        self._limits = limits
        self._metrics = metrics
        self._decoder = JsonDecoder(TokenRequest)

    def route(self) -> TemplateRoute:
        return route("/api/v1/auth/token", self.take, "POST")

    async def take(self, request: Request) -> Response:
        deadline = time.monotonic() + self._answer_within
        content = await read_body(request, self._max_body, deadline)
        try:
            body = self._decoder.decode(content)
            require_id(body, "node_id")
            kind = require_one_of("node_type", body.node_type, NODE_KINDS)
        except BodyError as error:
            raise invalid(error) from error
        node = await self._credentials.check_api_key(
            kind, body.node_id, body.api_key, request.scope, deadline
        )
        self._limits.admit_token(node, endpoint_of(request.scope))
        try:
            token = self._tokens.issue(node)
        except NoKeyError as error:
            raise unavailable(f"This gateway cannot sign tokens: {error}") from error
        self._metrics.tokens_issued[kind].inc()
        answer = TokenIssued(
            access_token=token.text, token_type="Bearer", expires_at=rfc3339(token.expires_at)
        )
        return JSON(msgspec.structs.asdict(answer))
