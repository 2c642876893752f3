"""Valid and invalid certificate requests, as openssl or a node's library creates them."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
AnyHash = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512


def csr(
    key: PrivateKey | None = None,
    common_name: str = "whoever",
    hash: AnyHash | None = None,
    *names: x509.GeneralName,
    ca: bool = False,
) -> str:
    """A certificate request; by default with a key on P-256."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if ca:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        hash = hash or hashes.SHA256()
    return builder.sign(key, hash).public_bytes(Encoding.PEM).decode("ascii")
