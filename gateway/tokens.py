"""Tokens: RS256 JWTs with which headends submit."""

import base64
import hashlib
import json
import secrets
import time
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contract.registry import RegistryRecord
from service.settings import Secret, SettingsError

ALGORITHM = "RS256"
SCOPE = "metrics:write"
LEEWAY = 5
"""Seconds that the clock of whoever issued a token may be ahead of ours."""
MIN_KEY_BITS = 2048
_CLAIMS = ("sub", "node_type", "scope", "iss", "aud", "iat", "nbf", "exp", "jti")


class Token(NamedTuple):
    """An issued token; `expires_at` is in seconds since the epoch."""

    text: str
    expires_at: int


class Bearer(NamedTuple):
    """Whom a valid token names, of which registration, and after how many revocations."""

    node_type: str
    id: str
    generation: int
    tokens: int
    jti: str


class TokenError(Exception):
    """A token that is not valid here, whatever the reason."""


class ExpiredError(TokenError):
    """A token of ours whose time is over."""


class UnknownKeyError(TokenError):
    """A token that names a key which the registry, as far as it was read, does not hold."""


class Tokens:
    """Issues and verifies tokens with one key.

    Raises:
        SettingsError: the key is no RSA private key in PEM, or too short.
    """

    def __init__(self, signing_key: Secret, issuer: str, audience: str, lifetime: float) -> None:
        self._key = _load_key(signing_key)
        self._public_key = self._key.public_key()
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self.key_id = _thumbprint(self._key)

    def issue(self, node: RegistryRecord, now: float | None = None) -> Token:
        """Issue a token for a node, valid for the configured lifetime (in seconds) from `now`."""
        issued_at = int(time.time() if now is None else now)
        expires_at = int(issued_at + self._lifetime)
        claims = {
            "sub": node.id,
            "node_type": node.kind,
            "scope": SCOPE,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": expires_at,
            "jti": f"{node.generation}.{node.tokens}.{secrets.token_hex(16)}",
        }
        text = jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})
        return Token(text, expires_at)

    def verify(self, text: str) -> Bearer:
        """Return whom a token names.

        Raises:
            TokenError: it is not one of ours, not for this use, or not valid now.
        """
        # A token is a stranger's text: whatever decoding it raises, it is not valid.
        try:
            token = jwt.decode_complete(
                text,
                self._public_key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": list(_CLAIMS)},
            )
            return self._bearer(token["header"], token["payload"])
        except jwt.ExpiredSignatureError as error:
            raise ExpiredError(str(error)) from error
        except Exception as error:
            raise TokenError(str(error)) from error

    def _bearer(self, header: dict[str, Any], claims: dict[str, Any]) -> Bearer:
        node_type, id, scope = claims["node_type"], claims["sub"], claims["scope"]
        if header.get("kid") != self.key_id:
            raise TokenError("signed with another key")
        if not (isinstance(node_type, str) and isinstance(id, str) and isinstance(scope, str)):
            raise TokenError("claims of other types")
        if SCOPE not in scope.split():
            raise TokenError("issued for another use")
        generation, tokens, _ = claims["jti"].split(".")
        return Bearer(node_type, id, int(generation), int(tokens), claims["jti"])


def _load_key(signing_key: Secret) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(signing_key.reveal().encode(), password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            "SIGNING_KEY is not a private key in PEM without a passphrase: "
            "make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`"
        ) from error
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise SettingsError(f"SIGNING_KEY must be an RSA key of at least {MIN_KEY_BITS} bits")
    return key


def _thumbprint(key: RSAPrivateKey) -> str:
    """RFC 7638 thumbprint of the public key."""
    numbers = key.public_key().public_numbers()
    members = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return _encode(hashlib.sha256(canonical).digest())


def _base64url(number: int) -> str:
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
