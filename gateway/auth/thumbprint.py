"""Key ids: the `kid` in a token's header is the thumbprint of the public key."""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


def thumbprint(key: RSAPublicKey) -> str:
    """Return the RFC 7638 thumbprint (SHA-256) of a key in hexadecimal, which is a valid id in
    paths."""
    canonical = json.dumps(public_jwk(key), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()


def public_jwk(key: RSAPublicKey) -> dict[str, str]:
    """Return the members of a public key's JWK that RFC 7518, section 6.3.1, requires."""
    numbers = key.public_numbers()
    return {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
