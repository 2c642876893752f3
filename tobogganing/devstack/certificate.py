"""Initial certificates: a self-signed one for the edge, and a CA for nodes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from service.config.key_usage import key_usage

LIFE = timedelta(days=825)
"""The longest lifetime that all common clients accept."""
AUTHORITY_LIFE = timedelta(days=3652)
SKEW = timedelta(hours=1)
NAMES = ("localhost", "edge")

Key = ec.EllipticCurvePrivateKey


def self_signed(now: datetime) -> str:
    """A new key and certificate for loopback addresses, as one PEM text."""
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in NAMES]
    names += [x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", "::1")]

    def extend(builder: x509.CertificateBuilder, _: Key) -> x509.CertificateBuilder:
        return builder.add_extension(x509.SubjectAlternativeName(names), critical=False)

    return _pem("Tobogganing metrics, self-signed", now, LIFE, extend)


def certificates_in(pem: str) -> str:
    """The certificates in a PEM text, without the keys in it.

    Raises:
        ValueError: the text contains no certificate, or one that cannot be read.
    """
    certificates = x509.load_pem_x509_certificates(pem.encode())
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in certificates)


def self_signed_ca(now: datetime) -> str:
    """A new CA for nodes' certificates only, as one PEM text with its key."""
    usage = key_usage("key_cert_sign", "crl_sign")

    def extend(builder: x509.CertificateBuilder, key: Key) -> x509.CertificateBuilder:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return builder.add_extension(usage, critical=True).add_extension(identifier, critical=False)

    return _pem("Tobogganing node CA", now, AUTHORITY_LIFE, extend)


def _pem(
    common_name: str,
    now: datetime,
    life: timedelta,
    extend: Callable[[x509.CertificateBuilder, Key], x509.CertificateBuilder],
) -> str:
    """A new key and its self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    certificate = extend(builder, key).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode("ascii")
