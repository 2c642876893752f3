"""Endpoints of the signing keys: public ones without authentication, others for ADMIN_TOKEN."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.registry import SIGNING_KEY, RegistryRecord
from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.schemas import PublicKey, SigningKeyCreated, rfc3339
from gateway.auth.jwt import ALGORITHM
from gateway.auth.signing_keys import PUBLIC_KEY, SigningKeyManager
from gateway.auth.thumbprint import public_jwk
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.audit_log import ADMIN, AuditedChange
from gateway.registry.writer import TOMBSTONE_DELAY_MS
from service.http.errors import JSON, ApiError, unavailable
from service.metrics.requests import address_of


class KeyEndpoints(ApiEndpoints):
    """`/api/v1/auth/public-key`, `/.well-known/jwks.json`, and `/api/v1/auth/keys`."""

    def __init__(self, parts: ApiParts, keys: SigningKeyManager) -> None:
        super().__init__(parts)
        self._keys = keys

    def routes(self) -> list[OperationRoute]:
        public_key = Operation(
            summary="The public key that verifies new tokens", errors=(503,), response=PublicKey
        )
        jwks = Operation(summary="Public keys of valid tokens")
        list_all = Operation(summary="List the signing keys", credentials=("admin",))
        rotate = Operation(
            summary="Sign with a new key",
            credentials=("admin",),
            errors=(409,),
            response=SigningKeyCreated,
        )
        remove = Operation(
            summary="Remove a signing key and invalidate its tokens",
            credentials=("admin",),
            errors=(404, 409),
        )
        keys = "/api/v1/auth/keys"
        return [
            operation_route("/api/v1/auth/public-key", GET=(self.public_key, public_key)),
            operation_route("/.well-known/jwks.json", GET=(self.jwks, jwks)),
            operation_route(keys, GET=(self.list_all, list_all)),
            operation_route(f"{keys}/rotate", POST=(self.rotate, rotate)),
            operation_route(f"{keys}/{{kid:id}}", DELETE=(self.remove, remove)),
        ]

    async def public_key(self, _: Request) -> Response:
        """Return the public key that verifies newly issued tokens."""
        signing = self._signing()
        if signing is None:
            raise unavailable("No signing key has been published yet")
        response = PublicKey(public_key=signing.attributes[PUBLIC_KEY], kid=signing.id)
        return JSON(msgspec.structs.asdict(response))

    async def jwks(self, _: Request) -> Response:
        """Return all public keys that verify valid tokens, as a JWK Set (RFC 7517)."""
        keys: list[dict[str, Any]] = []
        for record in self._keys.published():
            public = self._keys.public_key(record.id)
            if public is not None:
                use = {"kid": record.id, "use": "sig", "alg": ALGORITHM}
                keys.append(public_jwk(public) | use)
        return JSON({"keys": keys})

    async def list_all(self, request: Request) -> Response:
        self._authenticator.check_admin(request)
        await self._authenticator.catch_up(self._deadline())
        signing = self._signing()
        return JSON(
            {
                "keys": [
                    {
                        "kid": record.id,
                        "name": record.name,
                        "signing": signing is not None and record.id == signing.id,
                        "valid_until": rfc3339(record.expires_at_ms / 1000)
                        if record.expires_at_ms
                        else None,
                    }
                    for record in self._keys.published()
                ]
            }
        )

    async def rotate(self, request: Request) -> Response:
        """Create a signing key in the folder, and sign with it from now on."""
        deadline = self._deadline()
        self._authenticator.check_admin(request)
        await self._authenticator.catch_up(deadline)
        change = AuditedChange(ADMIN, "rotate-signing-key", SIGNING_KEY, address_of(request.scope))
        unconfirmed = (
            "Kafka did not confirm the new key in time: if the key is in the folder, the gateway "
            "publishes it later"
        )
        async with self._audit_log.recording(change, deadline, unconfirmed):
            try:
                kid = await self._keys.create(deadline)
            except OSError as error:
                raise ApiError(
                    409,
                    f"This gateway cannot write to its signing key folder ({error.strerror}): "
                    "add a key yourself, under a name that sorts after the others",
                ) from error
            if kid is None:
                raise ApiError(
                    409, "Another gateway has published a newer key, from a different folder"
                )
        return JSON(msgspec.structs.asdict(SigningKeyCreated(kid)))

    async def remove(self, request: Request) -> Response:
        """Remove a key and invalidate its tokens; the key is never used or published again."""
        deadline = self._deadline()
        self._authenticator.check_admin(request)
        await self._authenticator.catch_up(deadline)
        kid = request.path_params["kid"]
        base = self._registry.get(SIGNING_KEY, kid)
        if base is None:
            raise ApiError(404, "Signing key not found")
        self._as_removed(base)  # not audited if it cannot be removed
        target = f"{SIGNING_KEY}:{kid}"
        change = AuditedChange(ADMIN, "remove-signing-key", target, address_of(request.scope))
        unconfirmed = "Kafka did not confirm the removal in time: send it again"
        async with self._audit_log.recording(change, deadline, unconfirmed):
            # Another gateway may end the use of the key at the same time.
            await self._registry.change_current(base, self._as_removed, deadline)
        return JSON({"kid": kid})

    def _as_removed(self, record: RegistryRecord) -> RegistryRecord:
        """Return the record of a removed key.

        Raises:
            ApiError: 409 if the key signs tokens.
        """
        if record.expires_at_ms is None:
            raise ApiError(409, "This key signs tokens now: rotate first")
        until = self._registry.time.latest_ms() + TOMBSTONE_DELAY_MS
        return msgspec.structs.replace(record, removed=True, expires_at_ms=until)

    def _signing(self) -> RegistryRecord | None:
        """Return the newest published key; every gateway that has it signs with it."""
        published = self._keys.published()
        return published[-1] if published else None
