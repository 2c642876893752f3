"""Client certificates that a trusted proxy requested in TLS and forwards in a header.

The header is `Client-Cert` of RFC 9440, with the certificate in DER; percent-encoded PEM is read
too, because nginx cannot make the other form. Only the address of the TCP connection says whether a
proxy is trusted. The proxy has checked that the client has the private key. All else is checked
here again: the issuer, the time, the use and the names. A proxy that also forwards unverified
certificates therefore grants no access.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.requests import Request

from gateway.auth.certificate_names import CertifiedNode, decode_names
from gateway.auth.jwt import LEEWAY
from service.config.networks import Networks
from service.http.connection.fast_path import RawHeaders
from service.http.connection.request_head import PEER

HEADER = b"client-cert"
NO_CERTIFICATE = b"::"
"""What a proxy sends that sets the header also for a client without a certificate."""
CACHE_SIZE = 32_768
"""Maximum number of cached certificates, about 0.7 KB each; the oldest is evicted."""
MAX_CERTIFICATE = 8192
"""Maximum length of the header in bytes; a certificate with the largest key has about 5,000."""
_PEM_START = b"-----BEGIN"


class ClientCertificate(NamedTuple):
    """A certificate that a trusted proxy forwarded: the value of the header."""

    header: bytes


class CertificateError(Exception):
    """A certificate is not valid as a credential."""


class _Verified(NamedTuple):
    """A certificate of this installation; times are in seconds since the epoch."""

    node: CertifiedNode
    not_before: float
    expires_at: float


class ClientCertificates:
    """Finds and verifies client certificates.

    `issuers` are the certificates of the CAs. `now` and `highest` return the cluster time in
    seconds since the epoch, which are compared as for tokens (gateway.auth.jwt).
    """

    def __init__(
        self,
        issuers: Sequence[x509.Certificate],
        proxies: Networks,
        now: Callable[[], float],
        highest: Callable[[], float],
    ) -> None:
        self._issuers = issuers
        self._proxies = proxies
        self._now = now
        self._highest = highest
        self._verified: dict[bytes, _Verified] = {}

    def find(self, request: Request) -> ClientCertificate | None:
        """Return the only certificate that a trusted proxy forwarded with a request."""
        found = [value for name, value in request.scope["headers"] if name == HEADER]
        return self._trust(found[0], request.scope.get(PEER)) if len(found) == 1 else None

    def find_fast(
        self, headers: RawHeaders, peer: tuple[str, int] | None
    ) -> ClientCertificate | None:
        """As `find`, for a request of the fast path, which repeats no header."""
        return self._trust(headers.get(HEADER), peer)

    def verify(self, certificate: ClientCertificate) -> CertifiedNode:
        """Return what a certificate names. The caller compares that with the registry.

        Raises:
            CertificateError: it is not a certificate for a node of this installation that is valid
                now.
        """
        # The digest is a short key, and no other certificate has the same.
        digest = hashlib.sha256(certificate.header).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = self._read(certificate.header)
            if len(self._verified) >= CACHE_SIZE:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = verified
        now, start = self._now(), verified.not_before - LEEWAY
        if now >= verified.expires_at + LEEWAY:
            raise CertificateError("the certificate has expired")
        if now < start and self._highest() < start:
            raise CertificateError("the certificate is not valid yet")
        return verified.node

    def _read(self, header: bytes) -> _Verified:
        # A certificate is untrusted input: any exception means that it is not valid.
        try:
            certificate = x509.load_der_x509_certificate(decode_header(header))
            self._require_issuer(certificate)
            extensions = certificate.extensions
            usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
                raise CertificateError("the certificate is not for clients")
            names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            node = decode_names(names.get_values_for_type(x509.UniformResourceIdentifier))
        except Exception as error:  # cryptography documents no set of errors for bad certificates
            raise CertificateError(str(error)) from error
        return _Verified(
            node,
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )

    def _require_issuer(self, certificate: x509.Certificate) -> None:
        for issuer in self._issuers:
            try:
                certificate.verify_directly_issued_by(issuer)
            except Exception:  # as above: of a bad signature, and of a key that does not fit
                continue
            return
        raise CertificateError("the certificate was issued by another CA")

    def _trust(
        self, header: bytes | None, peer: tuple[str, int] | None
    ) -> ClientCertificate | None:
        if not header or header == NO_CERTIFICATE or peer is None or peer[0] not in self._proxies:
            return None
        return ClientCertificate(header)


def decode_header(header: bytes) -> bytes:
    """Return the certificate in a header as DER.

    Raises:
        ValueError: the header contains no certificate, or more than one.
    """
    if len(header) > MAX_CERTIFICATE:
        raise ValueError(f"longer than {MAX_CERTIFICATE} bytes")
    if header.startswith(_PEM_START):
        return _decode_pem(unquote_to_bytes(header))
    if len(header) < 2 or not header.startswith(b":") or not header.endswith(b":"):
        raise ValueError("neither a byte sequence (RFC 8941) nor PEM")
    try:
        return base64.b64decode(header[1:-1], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _decode_pem(pem: bytes) -> bytes:
    (certificate,) = x509.load_pem_x509_certificates(pem)
    return certificate.public_bytes(Encoding.DER)
