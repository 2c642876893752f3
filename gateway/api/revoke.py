"""`POST /api/v1/auth/revoke`: revokes one token, or all tokens of a node.

A revoked token has a record of its own until the token would have expired. To revoke all tokens of
a node, its record's `token_epoch` is incremented; a token carries the epoch at which it was issued.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.registry import RECORD_VERSION, REVOCATION, RegistryRecord
from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.schemas import NODE_KINDS, Revocation, Revoked, require_id, require_one_of
from gateway.auth.jwt import LEEWAY
from gateway.body.json import BODY, BodyError, JsonDecoder
from gateway.body.reader import read_body
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.audit_log import ADMIN, AuditedChange
from service.http.errors import JSON, ApiError
from service.metrics.requests import address_of

UNCONFIRMED = "Kafka did not confirm the revocation in time: send it again"


class RevokeEndpoint(ApiEndpoints):
    """Revokes tokens, authenticated as the node itself or with ADMIN_TOKEN."""

    def __init__(self, parts: ApiParts) -> None:
        super().__init__(parts)
        self._lifetime = parts.settings.token_lifetime
        self._decoder = JsonDecoder(Revocation)

    def route(self) -> OperationRoute:
        described = Operation(
            summary="Revoke a token, or all tokens of a node",
            credentials=("admin", "api_key", "jwt"),
            errors=(404, 409),
            bodies=(Revocation,),
            response=Revoked,
        )
        return operation_route("/api/v1/auth/revoke", POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        deadline = self._deadline()
        is_admin = self._authenticator.is_admin(request)
        if not is_admin:
            self._authenticator.require_credential(request)
        content = await read_body(request, self._max_body, deadline)
        body = self._decoder.decode(content)
        kind = _kind_of(body)
        await self._authenticator.catch_up(deadline)
        actor = ADMIN
        if is_admin:
            self._authenticator.check_admin(request, again=True)
        else:
            actor = await self._authenticator.check_token_owner(
                request, kind, body.node_id, body.jti, deadline
            )
        address = address_of(request.scope)
        if body.jti is not None:
            change = AuditedChange(actor, "revoke-token", f"{REVOCATION}:{body.jti}", address)
            async with self._audit_log.recording(change, deadline, UNCONFIRMED):
                await self._revoke_token(body.jti, deadline)
            return _response(jti=body.jti)
        assert kind is not None, "jti or node_id is required"
        assert body.node_id is not None, "jti or node_id is required"
        change = AuditedChange(actor, "revoke-tokens", f"{kind}:{body.node_id}", address)
        checked = self._registry.get(kind, body.node_id)  # no await since the check
        async with self._audit_log.recording(change, deadline, UNCONFIRMED):
            if checked is None:
                raise ApiError(404, f"{kind.capitalize()} not found")
            await self._revoke_all(checked, deadline)
        return _response(node_id=body.node_id, node_type=kind)

    async def _revoke_token(self, jti: str, deadline: float) -> None:
        kept_ms = int((self._lifetime + 2 * LEEWAY) * 1000)
        record = RegistryRecord(
            version=RECORD_VERSION,
            kind=REVOCATION,
            id=jti,
            revision=1,
            name=jti,
            expires_at_ms=int(self._registry.time.highest_seconds() * 1000) + kept_ms,
        )
        if await self._registry.add(record, deadline):
            self._metrics.tokens_revoked.labels("jti").inc()

    async def _revoke_all(self, checked: RegistryRecord, deadline: float) -> None:
        """Revoke all tokens of this registration, but not of a later one with the same id."""
        if await self._registry.change_current(checked, _with_next_epoch, deadline) is None:
            raise ApiError(404, f"{checked.kind.capitalize()} not found")
        self._metrics.tokens_revoked.labels("node").inc()


def _with_next_epoch(record: RegistryRecord) -> RegistryRecord:
    return msgspec.structs.replace(record, token_epoch=record.token_epoch + 1)


def _kind_of(body: Revocation) -> str | None:
    """Validate the fields; return the kind of node, or None if the body names a token.

    Raises:
        BodyError: no token and no complete node is given.
    """
    require_id(body, "jti", "node_id")
    if body.jti is None and body.node_id is None:
        raise BodyError(BODY, "must contain `jti`, or `node_id` and `node_type`")
    if (body.node_id is None) is not (body.node_type is None):
        raise BodyError("node_type" if body.node_type is None else "node_id", "is missing")
    if body.node_type is None:
        return None
    return require_one_of("node_type", body.node_type, NODE_KINDS)


def _response(**revoked: str) -> Response:
    return JSON(msgspec.to_builtins(Revoked("revoked", **revoked)))
