"""The certificate authority, which signs certificates for nodes.

It signs certificate requests (PKCS #10) only, so a private key never leaves its node. It uses only
the public key of a request; all names come from the registry.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.auth.certificate_names import CertifiedNode, encode_names
from gateway.auth.csr import PublicKey, check_public_key
from service.config.key_usage import key_usage
from service.config.settings import Secret, SettingsError

CLOCK_SKEW = timedelta(minutes=5)
"""How far a verifier's clock may be behind the gateway's."""
MAX_COMMON_NAME = 64
"""Maximum length of a common name in X.509, in characters; an id may be twice as long."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
SigningHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


class CertificateIdentity(NamedTuple):
    """The subject of a certificate, from the registry.

    `address` is the DNS name or IP address of a server.
    """

    node: CertifiedNode
    address: x509.DNSName | x509.IPAddress | None = None
    is_server: bool = False


class IssuedCertificate(NamedTuple):
    """A signed certificate in PEM; `serial` is hexadecimal, `expires_at` is in seconds since the
    epoch."""

    certificate: str
    serial: str
    expires_at: int


class ExpiredAuthorityError(Exception):
    """The CA's own certificate is not valid now, so it cannot sign."""


class CertificateAuthority:
    """Signs certificates with the CA's private key.

    Raises:
        SettingsError: `pem` is not one CA certificate that is valid `now`, with its unencrypted
            key.
    """

    def __init__(self, pem: Secret, lifetime: timedelta, now: datetime) -> None:
        self._certificate, self._key = _load(pem.reveal())
        self._lifetime = lifetime
        self._check_certificate(now)
        self.certificate = self._certificate.public_bytes(Encoding.PEM).decode("ascii")

    def issuers(self, previous: Secret | None) -> list[x509.Certificate]:
        """Return the certificates of this CA and of those before it, in PEM in `previous`.

        Raises:
            SettingsError: `previous` is not one or more CA certificates.
        """
        return [self._certificate, *(_load_previous(previous.reveal()) if previous else [])]

    def check_validity(self, now: datetime) -> None:
        """Check that the CA's certificate is valid at `now`.

        Raises:
            ExpiredAuthorityError: it is not.
        """
        first, last = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if not first <= now < last:
            raise ExpiredAuthorityError(
                f"the CA certificate is valid only from {first:%Y-%m-%d %H:%M} to "
                f"{last:%Y-%m-%d %H:%M} UTC"
            )

    def issue(
        self, key: PublicKey, identity: CertificateIdentity, now: datetime
    ) -> IssuedCertificate:
        """Sign a certificate for a key that `gateway.auth.csr` has accepted.

        It expires after the configured lifetime, or with the CA's own certificate.

        Raises:
            ExpiredAuthorityError: the CA's certificate is not valid now.
        """
        self.check_validity(now)
        serial = x509.random_serial_number()
        ends = min(now + self._lifetime, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(identity))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(max(now - CLOCK_SKEW, self._certificate.not_valid_before_utc))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(isinstance(key, RSAPublicKey)), critical=True)
            .add_extension(_extended_key_usage(identity), critical=False)
            .add_extension(x509.SubjectAlternativeName(_names(identity)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        certificate = builder.sign(self._key, _signing_hash(self._key))
        return IssuedCertificate(
            certificate.public_bytes(Encoding.PEM).decode("ascii"),
            f"{serial:x}",
            int(ends.timestamp()),
        )

    def _check_certificate(self, now: datetime) -> None:
        if not _is_ca(self._certificate):
            raise SettingsError(
                "CA_PEM: the certificate is not a CA certificate (basicConstraints)"
            )
        try:
            usage = self._certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            usage = None
        if usage is not None and not usage.key_cert_sign:
            raise SettingsError("CA_PEM: the certificate may not sign certificates (keyUsage)")
        if self._certificate.public_key() != self._key.public_key():
            raise SettingsError("CA_PEM: the private key does not belong to the certificate")
        try:
            self.check_validity(now)
        except ExpiredAuthorityError as error:
            raise SettingsError(f"CA_PEM: {error}") from error

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def utc_datetime(seconds: float) -> datetime:
    """Convert seconds since the epoch to a datetime in whole seconds, as in certificates."""
    return datetime.fromtimestamp(int(seconds), tz=UTC)


def _load(text: str) -> tuple[x509.Certificate, PrivateKey]:
    blocks = {match[1]: match[0] for match in _BLOCK.finditer(text)}
    labels = [match[1] for match in _BLOCK.finditer(text) if match[1] != "EC PARAMETERS"]
    keys = [label for label in labels if label.endswith("PRIVATE KEY")]
    if len(keys) != 1 or sorted(labels) != sorted(["CERTIFICATE", *keys]):
        found = ", ".join(labels) or "no PEM block"
        raise SettingsError(
            f"CA_PEM must contain one certificate and its private key in PEM; it contains: {found}"
        )
    try:
        certificate = x509.load_pem_x509_certificate(blocks["CERTIFICATE"].encode())
        certificate.public_key()
        key = load_pem_private_key(blocks[keys[0]].encode(), password=None)
    except TypeError as error:
        raise SettingsError("CA_PEM: the private key has a passphrase: remove it") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"CA_PEM cannot be read: {error}") from error
    try:
        check_public_key(key.public_key())
    except ValueError as error:
        raise SettingsError(f"CA_PEM {error}") from error
    assert _is_signing_key(key), "public and private key have the same type"
    return certificate, key


def _load_previous(text: str) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise SettingsError(f"CA_PREVIOUS_PEM cannot be read: {error}") from error
    if not all(map(_is_ca, certificates)):
        raise SettingsError("CA_PREVIOUS_PEM: a certificate is not a CA certificate")
    return certificates


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _is_signing_key(key: object) -> TypeGuard[PrivateKey]:
    return isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey)


def _signing_hash(key: PrivateKey) -> SigningHash | None:
    """Return the hash that matches a key's strength; None for Ed25519, which has its own."""
    if isinstance(key, Ed25519PrivateKey):
        return None
    if isinstance(key, RSAPrivateKey) or key.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if key.key_size <= 384 else hashes.SHA512()


def _subject(identity: CertificateIdentity) -> x509.Name:
    node = identity.node
    names = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, node.kind)]
    if len(node.id) <= MAX_COMMON_NAME:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, node.id))
    return x509.Name(names)


def _names(identity: CertificateIdentity) -> list[x509.GeneralName]:
    urns: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(urn) for urn in encode_names(identity.node)
    ]
    return urns if identity.address is None else [*urns, identity.address]


def _extended_key_usage(identity: CertificateIdentity) -> x509.ExtendedKeyUsage:
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    return x509.ExtendedKeyUsage([server, client] if identity.is_server else [client])


def _key_usage(is_rsa: bool) -> x509.KeyUsage:
    return key_usage("digital_signature", *(["key_encipherment"] if is_rsa else []))
