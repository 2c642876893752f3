"""Tokens: RS256 JWTs with which headends submit."""

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
"""Seconds by which two gateways' views of the cluster's time may differ."""
CACHE_SIZE = 16_384
"""Verified tokens that are remembered at least; at most twice as many, at about 1.5 KB each."""
_FORM = re.compile(r"ey[\w-]*\.[\w-]+\.[\w-]+", re.ASCII)
"""Three parts in base64url. A relay's key may have its dots, but has a `~` as well."""
_CLAIMS = ("sub", "node_type", "scope", "iss", "aud", "iat", "nbf", "exp", "jti")


class IssuedToken(NamedTuple):
    """An issued token; `expires_at` is in seconds since the epoch."""

    text: str
    expires_at: int


class TokenIdentity(NamedTuple):
    """Whom a valid token names, of which registration, and after how many revocations."""

    node_type: str
    id: str
    incarnation: int
    token_epoch: int
    jti: str


class TokenError(Exception):
    """A token that is not valid here, whatever the reason."""


class ExpiredError(TokenError):
    """A token of ours whose time is over."""


class UnknownKeyError(TokenError):
    """A token that names a key which the registry, as far as it was read, does not hold."""


class NoKeyError(Exception):
    """There is no published key to sign with."""


def is_token(credential: str) -> bool:
    """Tell whether a credential has the form of a token, which no API key has."""
    return _FORM.fullmatch(credential) is not None


class KeySource(Protocol):
    """What tokens need of gateway.auth.signing_keys.SigningKeyManager."""

    def signing_key(self) -> tuple[SigningKey, int | None] | None: ...

    def public_key(self, kid: str) -> RSAPublicKey | None: ...


class _VerifiedToken(NamedTuple):
    """What a token was found to say; the moments are in seconds since the epoch."""

    identity: TokenIdentity
    kid: str
    not_before: float
    expires_at: float


class JwtService:
    """Issues and verifies tokens. `lifetime` is in seconds, and also holds for what is out.

    `now` and `highest` are in seconds since the epoch, both of the cluster's time
    (gateway.produce.cluster_time). Expiry is judged by the earliest of the brokers' clocks, the
    start of
    validity by the highest time that one of them has ever shown. So no token is refused because a
    broker's clock is behind, or was set back.
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
        # Two generations, so that what is used stays without a list of uses.
        self._recent: dict[str, _VerifiedToken] = {}
        self._older: dict[str, _VerifiedToken] = {}

    def issue(self, node: RegistryRecord, now: float | None = None) -> IssuedToken:
        """Issue a token for a node, valid for the configured lifetime (in seconds) from `now`.

        Raises:
            NoKeyError: no key is published, or none of them is in this gateway's folder.
        """
        signer = self._keys.signing_key()
        if signer is None:
            raise NoKeyError("no signing key is published yet")
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
        """Return whom a token names; `now` is in seconds since the epoch.

        Whether that node is registered, and the token not revoked, is for the caller to ask.

        Raises:
            UnknownKeyError: its key is not known here, or not valid any more.
            ExpiredError: it was valid.
            TokenError: it is not one of ours, not for this use, or not valid yet.
        """
        given = now
        now = self._now() if now is None else now
        verified = self._recent.get(text) or self._older.get(text)
        if verified is None:
            verified = self._decode(text)
        elif self._keys.public_key(verified.kid) is None:
            raise UnknownKeyError("signed with a key that is not valid any more")
        if now >= verified.expires_at + LEEWAY:
            raise ExpiredError("its time is over")
        start = verified.not_before - LEEWAY
        if now < start and (given is not None or self._highest() < start):
            raise TokenError("its time has not come")
        self._remember(text, verified)
        return verified.identity

    def _remember(self, text: str, verified: _VerifiedToken) -> None:
        if text in self._recent:
            return
        if len(self._recent) >= CACHE_SIZE:
            self._older, self._recent = self._recent, {}
        self._recent[text] = verified

    def _decode(self, text: str) -> _VerifiedToken:
        # A token is a stranger's text: whatever decoding it raises, it is not valid.
        try:
            kid = jwt.get_unverified_header(text)["kid"]
            key = self._keys.public_key(kid)
        except Exception as error:
            raise TokenError(str(error)) from error
        if key is None:
            raise UnknownKeyError("signed with a key that is not known here")
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                # All moments are compared in `verify`, with another clock than PyJWT's.
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
            raise TokenError("claims of other types")
        if SCOPE not in scope.split():
            raise TokenError("issued for another use")
        issued_at, not_before, expires_at = (float(claims[name]) for name in ("iat", "nbf", "exp"))
        generation, tokens, _ = claims["jti"].split(".")
        identity = TokenIdentity(node_type, id, int(generation), int(tokens), claims["jti"])
        # Records of revocations and of old keys stay for one lifetime: nothing may outlive them.
        expires_at = min(expires_at, issued_at + self.lifetime)
        return _VerifiedToken(identity, kid, max(not_before, issued_at), expires_at)
