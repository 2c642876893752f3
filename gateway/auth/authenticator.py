"""Authenticates nodes by API key, token or client certificate.

A credential is refused only after the registry was read to the end offset that it had when the
request arrived. So a credential issued by another gateway works here at once. The response and its
timing are the same whether or not the entity exists.

While a starting gateway has not yet read the registry to its end, it accepts no credential without
that read either: its records may be older than a rotation, removal or revocation.
"""

import asyncio
import hmac
import secrets
import time
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Scope

from contract.entity import entity_key
from contract.kinds import EntityKind
from contract.registry import ENROLMENT, REVOCATION, RegistryRecord, hash_api_key
from gateway.auth.certificate_auth import CertificateAuth
from gateway.auth.client_certificates import ClientCertificate, ClientCertificates
from gateway.auth.jwt import (
    ExpiredError,
    JwtService,
    TokenError,
    TokenIdentity,
    UnknownKeyError,
    is_token,
)
from gateway.metrics import GatewayMetrics, TokenResult
from gateway.registry.refusals import RefusalRecorder
from gateway.registry.writer import RegistryWriter
from service.http.auth_failures import AuthFailureLimiter
from service.http.bearer_auth import (
    AUTHORIZATION,
    bearer_credential,
    parse_bearer,
)
from service.http.connection.fast_path import RawHeaders
from service.http.errors import ApiError, unavailable
from service.kafka.tailer import KafkaUnreachableError
from service.metrics.requests import Credential, RequestMetrics

NodeCredential = str | ClientCertificate | None
"""What a request shows: a bearer credential or, without one, a client certificate."""


class AuthParts(NamedTuple):
    """The parts of a gateway that authentication uses."""

    registry: RegistryWriter
    jwt_service: JwtService
    requests: RequestMetrics
    metrics: GatewayMetrics
    auth_failures: AuthFailureLimiter
    refusals: RefusalRecorder
    certificates: ClientCertificates | None
    """None if client certificates are not credentials."""


class Authenticator:
    """Checks the credentials of nodes, and counts each attempt once with its result."""

    def __init__(self, parts: AuthParts) -> None:
        self._registry = parts.registry
        self._jwt_service = parts.jwt_service
        self._requests = parts.requests
        self._metrics = parts.metrics
        self._auth_failures = parts.auth_failures
        self._refusals = parts.refusals
        self._certificates = CertificateAuth(
            parts.certificates, parts.registry, parts.requests, parts.auth_failures, self.catch_up
        )
        # Compared where there is no entity, so that the timing is the same; no key has this hash.
        self._dummy_hash = hash_api_key(secrets.token_urlsafe(32))

    def credential_of(self, request: Request) -> NodeCredential:
        """Return the credential that a request shows as a node's."""
        return bearer_credential(request) or self._certificates.find(request)

    async def check(
        self, kind: EntityKind, id: str, credential: NodeCredential, scope: Scope, deadline: float
    ) -> RegistryRecord:
        """Return the record of the entity `id` if `credential` authenticates its submissions.

        `deadline` is on the monotonic clock.

        Raises:
            ApiError: 401 or 429; 404 if a headend's token is valid but its record was removed; 503
                if the registry could not be read.
        """
        if isinstance(credential, ClientCertificate):
            return await self._certificates.check(kind.name, id, credential, scope, deadline)
        if kind.credential == "jwt":
            return await self._check_token(kind.name, id, credential, scope, deadline)
        return await self.check_api_key(kind.name, id, credential, scope, deadline)

    async def check_again(
        self, previous: RegistryRecord, credential: NodeCredential, scope: Scope, deadline: float
    ) -> RegistryRecord:
        """Return the current record of `previous`, which a check returned before the body arrived.

        A body may take seconds to arrive; removals, rotations and revocations in that time apply.

        Raises:
            ApiError: 401 or 429 if the credential is no longer valid, or belongs to another
                incarnation of the registration; 404 and 503 as `check`.
        """
        if isinstance(credential, ClientCertificate):
            record = await self._certificates.check(
                previous.kind, previous.id, credential, scope, deadline, again=True
            )
        elif is_token(credential or ""):
            record = await self._find_by_token(
                previous.kind, previous.id, credential, scope, deadline
            )
        else:
            record = await self._find_by_key(
                previous.kind, previous.id, credential, scope, deadline
            )
        if record.incarnation != previous.incarnation:
            raise self._failure(previous.kind, previous.id, scope)
        return record

    def check_cached(
        self, kind: EntityKind, id: str, headers: RawHeaders, peer: tuple[str, int] | None
    ) -> RegistryRecord | None:
        """Return the result of `check` for the credential of a request if it is known without a
        request to Kafka, else None.

        Counts an attempt only if it returns a record.
        """
        if not self._registry.is_current:
            return None
        authorization = headers.get(AUTHORIZATION)
        if authorization is None:
            return self._certificates.check_cached(kind.name, id, headers, peer)
        credential = parse_bearer(authorization)
        if credential is None:
            return None
        if kind.credential == "jwt":
            return self._check_cached_token(kind.name, id, credential)
        record = self._match_key(entity_key(kind.name, id), hash_api_key(credential))
        if record is not None:
            self._requests.count_attempt("api_key", True)
        return record

    async def check_api_key(
        self, kind: str, id: str, api_key: str | None, scope: Scope, deadline: float
    ) -> RegistryRecord:
        """Return the record of the entity if `api_key` is its API key.

        Raises:
            ApiError: 401 or 429; 503 if the registry could not be read.
        """
        record = await self._find_by_key(kind, id, api_key, scope, deadline)
        self._requests.count_attempt(_credential_of(kind), True)
        return record

    async def catch_up(self, deadline: float) -> None:
        """Read the registry to its current end, and wait until the cluster time is known.

        Raises:
            ApiError: 503 if Kafka does not respond by the deadline.
        """
        try:
            await self._registry.tailer.catch_up(deadline - time.monotonic())
            if not self._registry.time.is_known:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._registry.time.wait_until_known()
        except (KafkaUnreachableError, TimeoutError) as error:
            raise unavailable("The registry cannot be read now: try again") from error

    async def _find_by_key(
        self, kind: str, id: str, api_key: str | None, scope: Scope, deadline: float
    ) -> RegistryRecord:
        if api_key is None:
            raise self._failure(kind, id, scope, "no credential")
        key, digest = entity_key(kind, id), hash_api_key(api_key)
        record = self._match_key(key, digest) if self._registry.is_current else None
        if record is None:
            await self.catch_up(deadline)
            record = self._match_key(key, digest)
        if record is None:
            raise self._failure(kind, id, scope)
        return record

    def _failure(self, kind: str, id: str, scope: Scope, detail: str = "") -> ApiError:
        """Count and note an attempt with a wrong key; return the response to it."""
        self._refusals.unauthorized(kind, id, scope, detail)
        return self._auth_failures.failure(_credential_of(kind), scope)

    async def _check_token(
        self, kind: str, id: str, token: str | None, scope: Scope, deadline: float
    ) -> RegistryRecord:
        record = await self._find_by_token(kind, id, token, scope, deadline)
        self._count_token("success")
        return record

    async def _find_by_token(
        self, kind: str, id: str, token: str | None, scope: Scope, deadline: float
    ) -> RegistryRecord:
        if not self._registry.is_current:  # without the cluster time, no token would be valid yet
            await self.catch_up(deadline)
        identity = self._verify_token(kind, id, token, scope)
        record = self._registry.get(kind, id)
        if identity is None or not self._is_current(identity, record):
            await self.catch_up(deadline)
            identity = self._verify_token(kind, id, token, scope)
            record = self._registry.get(kind, id)
        if identity is not None and record is None:
            self._count_token("success")
            raise ApiError(404, f"{kind.capitalize()} not found")
        if identity is None or record is None or not self._is_current(identity, record):
            self._refusals.unauthorized(kind, id, scope)
            raise self._token_failure("failure", scope)
        return record

    def _check_cached_token(self, kind: str, id: str, token: str) -> RegistryRecord | None:
        try:
            identity = self._jwt_service.verify(token)
        except TokenError:
            return None
        record = self._registry.get(kind, id)
        if (identity.node_type, identity.id) != (kind, id) or not self._is_current(
            identity, record
        ):
            return None
        self._count_token("success")
        return record

    def _verify_token(
        self, kind: str, id: str, token: str | None, scope: Scope
    ) -> TokenIdentity | None:
        """Return the identity in a token; None if its signing key is not known yet."""
        try:
            identity = self._jwt_service.verify(token or "")
        except UnknownKeyError:
            return None
        except ExpiredError:
            self._refusals.unauthorized(kind, id, scope, "the token has expired")
            raise self._token_failure("expired", scope) from None
        except TokenError:
            self._refusals.unauthorized(kind, id, scope)
            raise self._token_failure("failure", scope) from None
        if (identity.node_type, identity.id) != (kind, id):
            self._refusals.unauthorized(kind, id, scope, "a token of another node")
            raise self._token_failure("failure", scope)
        return identity

    def _is_current(self, identity: TokenIdentity, record: RegistryRecord | None) -> bool:
        """Return whether a token belongs to this registration and is not revoked."""
        return (
            record is not None
            and (identity.incarnation, identity.token_epoch)
            == (record.incarnation, record.token_epoch)
            and self._registry.get(REVOCATION, identity.jti) is None
        )

    def _count_token(self, result: TokenResult) -> None:
        self._metrics.tokens_validated[result].inc()
        if result == "success":
            self._requests.count_attempt("jwt", True)

    def _token_failure(self, result: TokenResult, scope: Scope) -> ApiError:
        self._count_token(result)
        return self._auth_failures.failure("jwt", scope)

    def _match_key(self, key: bytes, digest: str) -> RegistryRecord | None:
        record = self._registry.state.get(key)
        hashes = record.valid_keys(self._registry.time.earliest_ms()) if record else None
        fits = [hmac.compare_digest(known, digest) for known in hashes or [self._dummy_hash]]
        return record if any(fits) else None


def _credential_of(kind: str) -> Credential:
    """What attempts with a key of this kind are counted as."""
    return "enrolment" if kind == ENROLMENT else "api_key"
