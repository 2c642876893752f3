"""Certificates as a proxy passes them on, valid and forged ones."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from service.config.settings import Secret

CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def header_of(certificate: x509.Certificate | str) -> dict[str, str]:
    """The header of RFC 9440, as HAProxy makes it."""
    if isinstance(certificate, str):
        certificate = x509.load_pem_x509_certificate(certificate.encode())
    der = certificate.public_bytes(Encoding.DER)
    return {"Client-Cert": f":{base64.b64encode(der).decode()}:"}


def nginx_header_of(certificate: str) -> dict[str, str]:
    """nginx's `$ssl_client_escaped_cert`."""
    return {"Client-Cert": quote(certificate)}


def forged(
    ca_pem: Secret,
    urns: Sequence[str],
    *,
    valid_from: timedelta = timedelta(),
    valid_for: timedelta = timedelta(days=1),
    usages: Sequence[x509.ObjectIdentifier] = CLIENT_AUTH,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    """A certificate of a CA, with names and times of the caller's choice."""
    pem = ca_pem.reveal().encode()
    issuer = x509.load_pem_x509_certificate(pem)
    signer = load_pem_private_key(pem, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = key or ec.generate_private_key(ec.SECP256R1())
    start = datetime.now(UTC) + valid_from
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + valid_for)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if urns:
        names = [x509.UniformResourceIdentifier(urn) for urn in urns]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())
