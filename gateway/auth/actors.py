"""Authenticates the actors of the administrative API: the administrator, enrolling agents, and
nodes that change themselves."""

from typing import Literal

from starlette.requests import Request

from contract.registry import ENROLMENT, RegistryRecord
from gateway.auth.authenticator import Authenticator, AuthParts
from gateway.auth.jwt import ExpiredError, TokenError, is_token
from gateway.auth.rate_limits import RateLimits
from gateway.registry.audit_log import ADMIN
from gateway.registry.named_keys import owner_of
from service.http.bearer_auth import StaticTokenAuth, bearer_credential
from service.http.errors import ApiError
from service.metrics.requests import endpoint_of

Accepted = Literal["key", "key or token", "key or certificate"]
"""The credentials with which a node may change itself."""


class ActorAuthenticator(Authenticator):
    """Also accepts ADMIN_TOKEN and the tokens of enrolments, and limits the rate of changes."""

    def __init__(
        self, parts: AuthParts, admin_auth: StaticTokenAuth, rate_limits: RateLimits
    ) -> None:
        super().__init__(parts)
        self._admin_auth = admin_auth
        self._rate_limits = rate_limits

    async def check_enrolment(self, request: Request, deadline: float) -> RegistryRecord:
        """Return the enrolment whose token a request has; it may have ended within the hour.

        Raises:
            ApiError: 401; 429, also where the token is used too often; 503 where the registry
                could not be read.
        """
        token = bearer_credential(request)
        record = await self.check_api_key(
            ENROLMENT, owner_of(token), token, request.scope, deadline
        )
        self._rate_limits.admit_enrolment(record, endpoint_of(request.scope))
        return record

    def enrolment_failure(self, request: Request) -> ApiError:
        """Count an attempt with an enrolment that has ended or was revoked; return the response."""
        return self._auth_failures.failure("enrolment", request.scope)

    async def check_actor(
        self,
        request: Request,
        kind: str,
        id: str,
        deadline: float,
        accepted: Accepted = "key or token",
    ) -> str:
        """Return the actor of a change: an entity for changes to itself, or the administrator.

        An entity authenticates with one of the `accepted` credentials.

        Raises:
            ApiError: 401; 429, also if an entity makes too many changes; 503 if the registry could
                not be read.
        """
        credential = bearer_credential(request)
        if self._admin_auth.matches(credential):
            self._requests.count_attempt("admin", True)
            return ADMIN
        certificate = None
        if accepted == "key or certificate":
            certificate = self._certificates.find(request)
        if certificate is not None:
            record = await self._certificates.check(kind, id, certificate, request.scope, deadline)
        elif credential is not None and accepted == "key or token" and is_token(credential):
            record = await self._check_token(kind, id, credential, request.scope, deadline)
        else:
            record = await self.check_api_key(kind, id, credential, request.scope, deadline)
        self._rate_limits.admit_change(record, endpoint_of(request.scope))
        return f"{kind}:{id}"

    async def check_actor_again(
        self, request: Request, previous: RegistryRecord, deadline: float
    ) -> None:
        """Check the actor of a change to `previous` again after the body has arrived.

        Raises:
            ApiError: as `check_again`.
        """
        credential = bearer_credential(request)
        if not self._admin_auth.matches(credential):
            await self.check_again(previous, credential, request.scope, deadline)

    async def check_token_owner(
        self, request: Request, kind: str | None, id: str | None, jti: str | None, deadline: float
    ) -> str:
        """Return the actor that revokes its own token `jti` or, without it, all its tokens.

        Without `kind` and `id`, the node is the subject of the presented token.

        Raises:
            ApiError: 401 or 429; 404 if the token's node is not registered; 503 if the registry
                could not be read.
        """
        if kind is None or id is None:
            credential = bearer_credential(request) or ""
            try:
                identity = self._jwt_service.verify(credential)
            except ExpiredError:
                raise self._token_failure("expired", request.scope) from None
            except TokenError:
                raise self._token_failure("failure", request.scope) from None
            kind, id = identity.node_type, identity.id
        actor = await self.check_actor(request, kind, id, deadline)
        record = self._registry.get(kind, id)
        own = record is not None and (jti is None or jti.startswith(f"{record.incarnation}."))
        if not own:
            raise self._auth_failures.failure("jwt", request.scope)
        return actor

    def is_admin(self, request: Request) -> bool:
        """Return whether the request carries ADMIN_TOKEN; count the attempt only if it does."""
        fits = self._admin_auth.matches(bearer_credential(request))
        if fits:
            self._requests.count_attempt("admin", True)
        return fits

    def require_credential(self, request: Request) -> None:
        """Require some credential in the request.

        Raises:
            ApiError: 401 or 429.
        """
        if bearer_credential(request) is None:
            raise self._auth_failures.failure("api_key", request.scope)

    def check_admin(self, request: Request, *, again: bool = False) -> None:
        """Require ADMIN_TOKEN.

        With `again`, the check is repeated after the body has arrived, because the token may have
        been replaced; a success is not counted a second time.

        Raises:
            ApiError: 401 or 429.
        """
        if not (again and self._admin_auth.matches(bearer_credential(request))):
            self._admin_auth(request)
