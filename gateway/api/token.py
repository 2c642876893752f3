"""`POST /api/v1/auth/token`: issues a token for an API key."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.schemas import (
    NODE_KINDS,
    TokenIssued,
    TokenRequest,
    require_id,
    require_one_of,
    rfc3339,
)
from gateway.auth.jwt import JwtService, NoKeyError
from gateway.auth.rate_limits import RateLimits
from gateway.body.json import JsonDecoder
from gateway.body.reader import read_body
from gateway.operations import Operation, OperationRoute, operation_route
from service.http.errors import JSON, unavailable
from service.metrics.requests import endpoint_of


class TokenEndpoint(ApiEndpoints):
    """Issues tokens to nodes that send their API key in the body."""

    def __init__(self, parts: ApiParts, jwt_service: JwtService, rate_limits: RateLimits) -> None:
        super().__init__(parts)
        self._jwt_service = jwt_service
        self._rate_limits = rate_limits
        self._decoder = JsonDecoder(TokenRequest)

    def route(self) -> OperationRoute:
        described = Operation(
            summary="Get a token for an API key", bodies=(TokenRequest,), response=TokenIssued
        )
        return operation_route("/api/v1/auth/token", POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        deadline = self._deadline()
        content = await read_body(request, self._max_body, deadline)
        body = self._decoder.decode(content)
        require_id(body, "node_id")
        kind = require_one_of("node_type", body.node_type, NODE_KINDS)
        node = await self._authenticator.check_api_key(
            kind, body.node_id, body.api_key, request.scope, deadline
        )
        self._rate_limits.admit_token(node, endpoint_of(request.scope))
        try:
            token = self._jwt_service.issue(node)
        except NoKeyError as error:
            raise unavailable(f"This gateway cannot sign tokens: {error}") from error
        self._metrics.tokens_issued[kind].inc()
        response = TokenIssued(
            access_token=token.text, token_type="Bearer", expires_at=rfc3339(token.expires_at)
        )
        return JSON(msgspec.structs.asdict(response))
