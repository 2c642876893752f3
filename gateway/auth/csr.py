"""Validation of certificate requests (PKCS #10)."""

import re

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MAX_REQUEST = 16_384
"""Maximum length of a request in characters; one with the largest RSA key has about 3,000."""
RSA_BITS = range(2048, 8193)
MIN_RSA_EXPONENT = 65_537

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_CURVES = (SECP256R1, SECP384R1, SECP521R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_PEM = re.compile(
    r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----[A-Za-z0-9+/=\s]*"
    r"-----END (NEW )?CERTIFICATE REQUEST-----\s*"
)


def read_request(text: str) -> PublicKey:
    """Return the public key of a request (PKCS #10, PEM) that is signed with its private key.

    The requested names and extensions are ignored.

    Raises:
        ValueError: the request is not valid; the message continues a sentence about the field.
    """
    if len(text) > MAX_REQUEST or _PEM.fullmatch(text) is None:
        raise ValueError("must be exactly one certificate request in PEM")
    # The request is untrusted input: any exception means that it is not valid.
    try:
        request = x509.load_pem_x509_csr(text.encode("ascii"))
        key: object = request.public_key()
    except Exception as error:
        raise ValueError("is not a readable certificate request") from error
    checked = check_public_key(key)
    if not _is_self_signed(request):
        raise ValueError("is not signed with its own key and SHA-256 or stronger")
    return checked


def check_public_key(key: object) -> PublicKey:
    """Return a public key whose type and strength are accepted.

    Raises:
        ValueError: the key is not accepted; the message continues a sentence about the field.
    """
    if isinstance(key, RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise ValueError(
                f"has an RSA key of {key.key_size} bits: use {RSA_BITS[0]} to {RSA_BITS[-1]}"
            )
        if key.public_numbers().e < MIN_RSA_EXPONENT:
            raise ValueError(f"has an RSA key with an exponent below {MIN_RSA_EXPONENT}")
        return key
    if isinstance(key, EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise ValueError("has an EC key on an unsupported curve: use P-256, P-384 or P-521")
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise ValueError("has a key of an unsupported type: use RSA, EC or Ed25519")


def _is_self_signed(request: x509.CertificateSigningRequest) -> bool:
    try:
        hash = request.signature_hash_algorithm
        return (hash is None or isinstance(hash, _HASHES)) and request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
