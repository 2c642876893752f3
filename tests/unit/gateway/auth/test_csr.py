"""Validation of certificate requests, with the reason for a refusal."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.csr import MAX_REQUEST, check_public_key, read_request
from tests.unit.gateway.csrs import csr

P256 = ec.generate_private_key(ec.SECP256R1())
GOOD = csr(P256)


def rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


def openssl(folder: Path, *arguments: str) -> str:
    command = ["openssl", *arguments, "-out", "out.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "out.pem").read_text()


def der(request: str) -> bytes:
    return base64.b64decode("".join(request.splitlines()[1:-1]))


def pem(content: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def test_requests_created_with_openssl_are_accepted(tmp_path: Path) -> None:
    for algorithm in ("rsa:2048", "ec:P-256", "ed25519"):
        name, _, parameter = algorithm.partition(":")
        options = {"rsa": "rsa_keygen_bits:", "ec": "ec_paramgen_curve:"}
        more = ("-pkeyopt", options[name] + parameter) if parameter else ()
        request = openssl(
            tmp_path,
            *("req", "-new", "-newkey", name, *more, "-nodes", "-keyout", "key.pem"),
            *("-subj", "/CN=somebody"),
        )
        assert read_request(request)
        assert read_request(request.replace("\n", "\r\n"))
        assert read_request("\n" + request + "\n")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (csr(rsa_key(1024)), "has an RSA key of 1024 bits: use 2048 to 8192"),
        (csr(rsa_key(2048, exponent=3)), "has an RSA key with an exponent below 65537"),
        (csr(ec.generate_private_key(ec.SECP224R1())), "has an EC key on an unsupported curve"),
        (csr(ec.generate_private_key(ec.SECP256K1())), "has an EC key on an unsupported curve"),
        (csr(ec.generate_private_key(ec.SECP192R1())), "has an EC key on an unsupported curve"),
        (csr(P256, "x", hashes.SHA224()), "is not signed with its own key and SHA-256"),
    ],
)
def test_weak_requests_are_refused(request_: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_request(request_)


@pytest.mark.parametrize(("bits", "signed"), [(2047, 0), (2048, 1), (8192, 1), (8193, 0)])
def test_rsa_key_sizes_are_bounded(bits: int, signed: bool) -> None:
    key = rsa.RSAPublicNumbers(65537, 2 ** (bits - 1) + 1).public_key()
    if signed:
        assert check_public_key(key) is key
    else:
        with pytest.raises(ValueError, match=f"has an RSA key of {bits} bits"):
            check_public_key(key)


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_old_hashes_are_refused(tmp_path: Path, digest: str) -> None:
    request = openssl(
        tmp_path,
        *("req", "-new", f"-{digest}", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"),
        *("-subj", "/CN=somebody"),
    )
    with pytest.raises(ValueError, match="is not signed with its own key and SHA-256 or stronger"):
        read_request(request)


def test_unsupported_key_types_are_refused() -> None:
    name = x509.Name([])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for key, hash in (
        (dsa.generate_private_key(2048), hashes.SHA256()),
        (ed448.Ed448PrivateKey.generate(), None),
    ):
        request = builder.sign(key, hash).public_bytes(Encoding.PEM).decode()
        with pytest.raises(ValueError, match="use RSA, EC or Ed25519"):
            read_request(request)


def test_a_request_signed_with_another_key_is_refused() -> None:
    """A request for one key with the signature of another: no proof of possession."""
    own, other = der(GOOD), der(csr(common_name="whoever"))
    key = P256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    stolen = x509.load_der_x509_csr(other).public_key()
    assert isinstance(stolen, ec.EllipticCurvePublicKey)
    foreign = stolen.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    swapped = own.replace(key, foreign)
    assert swapped != own
    with pytest.raises(ValueError, match="is not signed with its own key"):
        read_request(pem(swapped))


PRIVATE = P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        GOOD + GOOD,
        GOOD + PRIVATE,
        PRIVATE,
        "Certificate Request:\n" + GOOD,
        pem(der(GOOD), "CERTIFICATE"),
        GOOD.replace("-----END", "-----BEGIN"),
        GOOD + "A" * MAX_REQUEST,
        GOOD.replace("\n", "\n" + " " * MAX_REQUEST, 1),
        GOOD.replace("M", "é"),
        GOOD.replace("M", "\ud800"),
        GOOD.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST").replace("MI", "\0"),
    ],
)
def test_anything_but_one_pem_block_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be exactly one certificate request in PEM"):
        read_request(text)


@given(st.data())
def test_a_modified_request_is_never_accepted_with_another_key(data: st.DataObject) -> None:
    content = bytearray(der(GOOD))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    try:
        key = read_request(pem(bytes(content)))
    except ValueError:
        return
    assert key == P256.public_key()


@given(st.binary(max_size=400))
def test_random_bytes_in_a_pem_block_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="certificate request"):
        read_request(pem(content))
