"""Tokens: RS256 JWTs that headends submit with."""

import re
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contract.registry import RegistryRecord
from gateway.auth.key_store import SigningKey

ALGORITHM = "RS256"
SCOPE = "metrics:write"
LEEWAY = 5
"""Seconds by which the cluster time of two gateways may differ."""
CACHE_SIZE = 16_384
"""Minimum number of cached verified tokens; the maximum is twice that, at about 1.5 KB each."""
_FORM = re.compile(r"ey[\w-]*\.[\w-]+\.[\w-]+", re.ASCII)
"""Three parts in base64url. A relay's key may contain dots, but it also contains a `~`."""
_CLAIMS = ("sub", "node_type", "scope", "iss", "aud", "iat", "nbf", "exp", "jti")


class IssuedToken(NamedTuple):
    """An issued token; `expires_at` is in seconds since the epoch."""

    text: str
    expires_at: int


class TokenIdentity(NamedTuple):
    """The subject of a valid token, with the incarnation and token epoch at which it was issued."""

    node_type: str
    id: str
    incarnation: int
    token_epoch: int
    jti: str


class TokenError(Exception):
    """A token is not valid, for any reason."""


class ExpiredError(TokenError):
    """A valid token has expired."""


class UnknownKeyError(TokenError):
    """A token's signing key is not in the registry, as read so far."""


class NoKeyError(Exception):
    """No published key is available for signing."""


def is_token(credential: str) -> bool:
    """Return whether a credential has the form of a token, which no API key has."""
    return _FORM.fullmatch(credential) is not None


class KeySource(Protocol):
    """The part of gateway.auth.signing_keys.SigningKeyManager that JwtService uses."""

    def signing_key(self) -> tuple[SigningKey, int | None] | None: ...

    def public_key(self, kid: str) -> RSAPublicKey | None: ...


class _VerifiedToken(NamedTuple):
    """The verified claims of a token; times are in seconds since the epoch."""

    identity: TokenIdentity
    kid: str
    not_before: float
    expires_at: float


class JwtService:
    """Issues and verifies tokens. `lifetime` is in seconds, and limits tokens issued earlier too.

    `now` and `highest` return seconds since the epoch in cluster time
    (gateway.produce.cluster_time). Expiry is compared with the earliest of the brokers' clocks, the
    start of validity with the highest time that any broker has shown. So no token is refused
    because a broker's clock is behind or was set back.
    """

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        audience: str,
        lifetime: float,
        now: Callable[[], float],
        highest: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.lifetime = lifetime
        self._now = now
        self._highest = highest
        # An LRU approximation: two generations keep used tokens without tracking each use.
        self._recent: dict[str, _VerifiedToken] = {}
        self._older: dict[str, _VerifiedToken] = {}

    def issue(self, node: RegistryRecord, now: float | None = None) -> IssuedToken:
        """Issue a token for a node, valid from `now` (seconds since the epoch) for the configured
        lifetime.

        Raises:
            NoKeyError: no key is published, or this gateway's folder contains none of the published
                keys.
        """
        signer = self._keys.signing_key()
        if signer is None:
            raise NoKeyError("no signing key has been published yet")
        key, end = signer
        issued_at = int(self._now() if now is None else now)
        expires_at = int(issued_at + self.lifetime)
        if end is not None:
            expires_at = min(expires_at, end // 1000)
        claims = {
            "sub": node.id,
            "node_type": node.kind,
            "scope": SCOPE,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": expires_at,
            "jti": f"{node.incarnation}.{node.token_epoch}.{secrets.token_hex(16)}",
        }
        text = jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"kid": key.kid})
        return IssuedToken(text, expires_at)

    def verify(self, text: str, now: float | None = None) -> TokenIdentity:
        """Return the identity in a token; `now` is in seconds since the epoch.

        The caller checks that the node is registered and the token is not revoked.

        Raises:
            UnknownKeyError: its signing key is unknown or no longer valid.
            ExpiredError: it has expired.
            TokenError: it is not a token of this installation, has another scope, or is not valid
                yet.
        """
        given = now
        now = self._now() if now is None else now
        verified = self._recent.get(text) or self._older.get(text)
        if verified is None:
            verified = self._decode(text)
        elif self._keys.public_key(verified.kid) is None:
            raise UnknownKeyError("signed with a key that is no longer valid")
        if now >= verified.expires_at + LEEWAY:
            raise ExpiredError("the token has expired")
        start = verified.not_before - LEEWAY
        if now < start and (given is not None or self._highest() < start):
            raise TokenError("the token is not valid yet")
        self._remember(text, verified)
        return verified.identity

    def _remember(self, text: str, verified: _VerifiedToken) -> None:
        if text in self._recent:
            return
        if len(self._recent) >= CACHE_SIZE:
            self._older, self._recent = self._recent, {}
        self._recent[text] = verified

    def _decode(self, text: str) -> _VerifiedToken:
        # The token is untrusted input: any exception means that it is not valid.
        try:
            kid = jwt.get_unverified_header(text)["kid"]
            key = self._keys.public_key(kid)
        except Exception as error:
            raise TokenError(str(error)) from error
        if key is None:
            raise UnknownKeyError("signed with an unknown key")
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                # `verify` compares all times, with another clock than PyJWT's.
                options={
                    "require": list(_CLAIMS),
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_exp": False,
                },
            )
            return self._check_claims(kid, claims)
        except Exception as error:
            raise TokenError(str(error)) from error

    def _check_claims(self, kid: str, claims: dict[str, Any]) -> _VerifiedToken:
        node_type, id, scope = claims["node_type"], claims["sub"], claims["scope"]
        if not (isinstance(node_type, str) and isinstance(id, str) and isinstance(scope, str)):
            raise TokenError("claims have wrong types")
        if SCOPE not in scope.split():
            raise TokenError("the token has another scope")
        issued_at, not_before, expires_at = (float(claims[name]) for name in ("iat", "nbf", "exp"))
        incarnation, token_epoch, _ = claims["jti"].split(".")
        identity = TokenIdentity(node_type, id, int(incarnation), int(token_epoch), claims["jti"])
        # Records of revocations and old keys are kept for one lifetime, so no token may last
        # longer.
        expires_at = min(expires_at, issued_at + self.lifetime)
        return _VerifiedToken(identity, kid, max(not_before, issued_at), expires_at)
