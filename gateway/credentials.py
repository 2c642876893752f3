"""Credentials: who may submit what.

A credential is refused only after the registry has been read to the end that it had when the
request came, so one that was given out by another gateway works here at once. The answer, and the
way to it, is the same whether or not the entity exists.
"""

import hmac
import secrets
import time

from contract.frame import entity_key
from contract.kinds import HEADEND, EntityKind
from contract.registry import RegistryRecord, hash_api_key
from gateway.registry import RegistryWriter
from gateway.tokens import TokenError, Tokens
from service.http import ApiError, unauthorized, unavailable
from service.reader import UnreachableError
from service.requests import Credential, RequestMetrics


class Credentials:
    """Checks what callers present; counts each attempt once that was decided."""

    def __init__(self, registry: RegistryWriter, tokens: Tokens, requests: RequestMetrics) -> None:
        self._registry = registry
        self._tokens = tokens
        self._requests = requests
        # Stands in where there is none: no key hashes to it that anybody has.
        self._no_hash = hash_api_key(secrets.token_urlsafe(32))

    async def check(
        self, kind: EntityKind, id: str, credential: str | None, deadline: float
    ) -> RegistryRecord:
        """Return the record of the entity `id` if `credential` is its own.

        `deadline` is on the monotonic clock.

        Raises:
            ApiError: 401; 404 where a headend's own token is right but its record is gone; 503
                where the registry could not be asked.
        """
        if kind.credential == "jwt":
            return await self._check_token(id, credential, deadline)
        return await self.check_api_key(kind.name, id, credential, deadline)

    async def check_api_key(
        self, kind: str, id: str, api_key: str | None, deadline: float
    ) -> RegistryRecord:
        """Return the record of the entity whose key this is.

        Raises:
            ApiError: 401, or 503 where the registry could not be asked.
        """
        if api_key is None:
            raise self._refused("api_key")
        key, digest = entity_key(kind, id), hash_api_key(api_key)
        record = self._holder(key, digest)
        if record is None:
            await self._catch_up(deadline)
            record = self._holder(key, digest)
        if record is None:
            raise self._refused("api_key")
        self._requests.count_attempt("api_key", True)
        return record

    async def _check_token(self, id: str, token: str | None, deadline: float) -> RegistryRecord:
        try:
            bearer = self._tokens.verify(token or "")
        except TokenError:
            raise self._refused("jwt") from None
        if (bearer.node_type, bearer.id) != (HEADEND.name, id):
            raise self._refused("jwt")
        record = self._registry.get(HEADEND.name, id)
        if record is None:
            await self._catch_up(deadline)
            record = self._registry.get(HEADEND.name, id)
        self._requests.count_attempt("jwt", True)
        if record is None:
            raise ApiError(404, "Headend not found")
        return record

    def _holder(self, key: bytes, digest: str) -> RegistryRecord | None:
        record = self._registry.state.get(key)
        hashes = (record.api_keys if record is not None else None) or [self._no_hash]
        fits = [hmac.compare_digest(known, digest) for known in hashes]
        return record if any(fits) else None

    async def _catch_up(self, deadline: float) -> None:
        try:
            await self._registry.follower.catch_up(deadline - time.monotonic())
        except UnreachableError as error:
            raise unavailable("The registry cannot be read at the moment: try again") from error

    def _refused(self, credential: Credential) -> ApiError:
        self._requests.count_attempt(credential, False)
        return unauthorized()
