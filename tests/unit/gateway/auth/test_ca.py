"""The certificate authority: its certificates are valid and contain only names from the
registry."""

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from gateway.auth.ca import (
    CertificateAuthority,
    CertificateIdentity,
    ExpiredAuthorityError,
    IssuedCertificate,
)
from gateway.auth.certificate_names import CertifiedNode
from gateway.auth.csr import read_request
from service.config.settings import Secret, SettingsError
from tests.unit.gateway.csrs import PrivateKey, csr
from tobogganing.devstack.certificate import self_signed_ca

NOW = datetime(2030, 1, 31, 12, 0, 0, tzinfo=UTC)
LIFETIME = timedelta(days=90)
CLIENT = CertificateIdentity(CertifiedNode("client", "laptop-1", 7, 2))
NODE = CertifiedNode("headend", "h-1", 8, 0)
HEADEND = CertificateIdentity(NODE, x509.DNSName("fra1.example.com"), is_server=True)


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority(Secret(self_signed_ca(NOW)), LIFETIME, NOW)


def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


def sign(
    ca: CertificateAuthority, request: str, identity: CertificateIdentity = CLIENT
) -> IssuedCertificate:
    return ca.issue(read_request(request), identity, NOW)


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return list(names.value)


def urns(node: CertifiedNode) -> list[x509.UniformResourceIdentifier]:
    registration = f"urn:tobogganing:registration:{node.incarnation}.{node.token_epoch}"
    names = (f"urn:tobogganing:{node.kind}:{node.id}", registration)
    return [x509.UniformResourceIdentifier(name) for name in names]


@pytest.mark.parametrize(
    "key",
    [
        rsa_key(),
        rsa_key(3072),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "RSA 3072", "P-256", "P-384", "P-521", "Ed25519"],
)
@pytest.mark.parametrize("identity", [CLIENT, HEADEND], ids=["client", "headend"])
def test_openssl_verifies_issued_certificates(
    ca: CertificateAuthority, key: PrivateKey, identity: CertificateIdentity, tmp_path: Path
) -> None:
    issued = sign(ca, csr(key), identity)
    assert load(issued.certificate).public_key() == key.public_key()
    (tmp_path / "ca.pem").write_text(ca.certificate)
    (tmp_path / "node.pem").write_text(issued.certificate)
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOW.timestamp()))]
    command += ["-CAfile", "ca.pem", "-purpose"]
    purposes = {"sslclient": True, "sslserver": identity.is_server}
    for purpose, accepted in purposes.items():
        done = subprocess.run(
            [*command, purpose, "node.pem"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode == 0) is accepted, done.stdout + done.stderr


def test_a_strict_library_verifies_a_client(ca: CertificateAuthority) -> None:
    certificate = load(sign(ca, csr()).certificate)
    builder = PolicyBuilder().store(Store([load(ca.certificate)])).time(NOW)
    verified = builder.build_client_verifier().verify(certificate, [])
    assert verified.subjects == urns(CLIENT.node)
    other = CertificateAuthority(Secret(self_signed_ca(NOW)), LIFETIME, NOW)
    builder = PolicyBuilder().store(Store([load(other.certificate)])).time(NOW)
    with pytest.raises(VerificationError):
        builder.build_client_verifier().verify(certificate, [])


def test_a_strict_library_verifies_a_headend_only_by_its_name(
    ca: CertificateAuthority,
) -> None:
    certificate = load(sign(ca, csr(), HEADEND).certificate)
    builder = PolicyBuilder().store(Store([load(ca.certificate)])).time(NOW)
    builder.build_server_verifier(x509.DNSName("fra1.example.com")).verify(certificate, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("ams1.example.com")).verify(certificate, [])


def test_names_come_from_the_registry_not_from_the_request(ca: CertificateAuthority) -> None:
    foreign: list[x509.GeneralName] = [
        x509.DNSName("manager.example.com"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        *urns(NODE),
    ]
    request = csr(None, "admin", None, *foreign, ca=True)
    certificate = load(sign(ca, request).certificate)
    assert certificate.subject.rfc4514_string() == "CN=laptop-1,OU=client"
    assert alternatives(certificate) == urns(CLIENT.node)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_headend_may_have_an_ip_address_or_no_address(ca: CertificateAuthority) -> None:
    address = x509.IPAddress(ipaddress.ip_address("2001:db8::1"))
    with_ip = CertificateIdentity(NODE, address, is_server=True)
    assert alternatives(load(sign(ca, csr(), with_ip).certificate)) == [*urns(NODE), address]
    without = CertificateIdentity(NODE, is_server=True)
    certificate = load(sign(ca, csr(), without).certificate)
    assert alternatives(certificate) == urns(NODE)


def test_an_id_too_long_for_a_common_name_is_only_in_the_urn(ca: CertificateAuthority) -> None:
    for id, common_names in (("x" * 64, ["x" * 64]), ("x" * 65, []), ("x" * 128, [])):
        certificate = load(
            sign(ca, csr(), CertificateIdentity(CertifiedNode("client", id, 7, 0))).certificate
        )
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert [name.value for name in names] == common_names
        assert alternatives(certificate) == urns(CertifiedNode("client", id, 7, 0))


def test_validity_starts_in_the_past_and_has_the_configured_length(
    ca: CertificateAuthority,
) -> None:
    issued = sign(ca, csr())
    certificate = load(issued.certificate)
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + LIFETIME
    assert issued.expires_at == (NOW + LIFETIME).timestamp()


def test_a_certificate_does_not_outlive_the_ca(ca: CertificateAuthority) -> None:
    late = load(ca.certificate).not_valid_after_utc - timedelta(days=1)
    issued = ca.issue(read_request(csr()), CLIENT, late)
    assert load(issued.certificate).not_valid_after_utc == late + timedelta(days=1)
    with pytest.raises(ExpiredAuthorityError, match="is valid only from"):
        ca.issue(read_request(csr()), CLIENT, late + timedelta(days=1))
    with pytest.raises(ExpiredAuthorityError):
        ca.issue(read_request(csr()), CLIENT, NOW - timedelta(days=1))


def test_serial_numbers_are_long_and_unique(ca: CertificateAuthority) -> None:
    request = csr()
    issued = [sign(ca, request) for _ in range(50)]
    assert len({each.serial for each in issued}) == 50
    for each in issued:
        serial = load(each.certificate).serial_number
        assert serial == int(each.serial, 16)
        assert 2**100 < serial < 2**159


def test_a_certificate_has_both_key_identifiers(ca: CertificateAuthority) -> None:
    extensions = load(sign(ca, csr()).certificate).extensions
    own = load(ca.certificate).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.value.digest
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def pem_of(key: PrivateKey | dsa.DSAPrivateKey, certificate: x509.Certificate) -> str:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def ca_pem(
    key: PrivateKey,
    hash: hashes.SHA256 | None = None,
    *extensions: tuple[x509.ExtensionType, bool],
    ca: bool = True,
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "our CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return pem_of(key, builder.sign(key, hash))


@pytest.mark.parametrize(
    ("key", "hash"),
    [
        (rsa_key(), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["RSA", "P-384", "P-521", "Ed25519"],
)
def test_a_ca_created_with_openssl_signs(key: PrivateKey, hash: hashes.SHA256 | None) -> None:
    pem = ca_pem(key, hash)
    ours = CertificateAuthority(Secret(pem), LIFETIME, NOW)
    certificate = load(sign(ours, csr()).certificate)
    certificate.verify_directly_issued_by(load(ours.certificate))
    backwards = "".join(reversed(pem.partition("-----BEGIN CERTIFICATE-----")[::2]))
    assert ours.certificate in pem
    assert "PRIVATE" not in ours.certificate
    with pytest.raises(SettingsError):
        CertificateAuthority(Secret(backwards), LIFETIME, NOW)


def parts(pem: str) -> tuple[str, str]:
    """Private key and certificate in a PEM text."""
    head, mark, tail = pem.partition("-----BEGIN CERTIFICATE-----")
    return head, mark + tail


GOOD = self_signed_ca(NOW)
GOOD_KEY, GOOD_CERTIFICATE = parts(GOOD)
OTHER_KEY, OTHER_CERTIFICATE = parts(self_signed_ca(NOW))
P256 = ec.generate_private_key(ec.SECP256R1())
MAY_NOT_SIGN = x509.KeyUsage(True, *[False] * 8)
ENCRYPTED = P256.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
).decode()


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("", "no PEM block"),
        ("rubbish", "no PEM block"),
        (GOOD_CERTIFICATE, "it contains: CERTIFICATE"),
        (GOOD_KEY, "it contains: PRIVATE KEY"),
        (GOOD + OTHER_CERTIFICATE, "it contains: PRIVATE KEY, CERTIFICATE, CERTIFICATE"),
        (GOOD + OTHER_KEY, "it contains: PRIVATE KEY, CERTIFICATE, PRIVATE KEY"),
        (GOOD.replace("MI", "MJ"), "cannot be read"),
        (ENCRYPTED + GOOD_CERTIFICATE, "has a passphrase"),
        (OTHER_KEY + GOOD_CERTIFICATE, "the private key does not belong to the certificate"),
        (ca_pem(P256, hashes.SHA256(), ca=False), "not a CA certificate"),
        (ca_pem(P256, hashes.SHA256(), (MAY_NOT_SIGN, True)), "may not sign certificates"),
        (ca_pem(rsa_key(1024), hashes.SHA256()), "has an RSA key of 1024 bits"),
        (self_signed_ca(NOW - timedelta(days=3653)), "is valid only from 2020-"),
        (self_signed_ca(NOW + timedelta(days=1)), "is valid only from 2030-"),
    ],
)
def test_an_invalid_ca_is_refused_with_the_reason(pem: str, why: str) -> None:
    with pytest.raises(SettingsError, match=r"^CA_PEM") as refused:
        CertificateAuthority(Secret(pem), LIFETIME, NOW)
    assert why in str(refused.value)
    assert "-----" not in str(refused.value)


def test_key_and_certificate_may_be_in_any_order() -> None:
    for pem in (GOOD_KEY + GOOD_CERTIFICATE, "# ours\n" + GOOD_CERTIFICATE + "\n" + GOOD_KEY):
        assert CertificateAuthority(Secret(pem), LIFETIME, NOW).certificate == GOOD_CERTIFICATE
