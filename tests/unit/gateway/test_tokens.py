"""Tokens: ours are accepted, everything else is refused."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from contract.registry import RECORD_VERSION, RegistryRecord
from gateway.tokens import LEEWAY, Bearer, TokenError, Tokens
from service.settings import Secret, SettingsError

HOUR = 3600


def node(id: str, kind: str = "headend") -> RegistryRecord:
    return RegistryRecord(RECORD_VERSION, kind, id, 1, "n", generation=7)


def claims_of(text: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return claims


def test_an_issued_token_names_its_node(tokens: Tokens) -> None:
    token = tokens.issue(node("h-1"))
    assert tokens.verify(token.text) == Bearer("headend", "h-1", 7, 0, claims_of(token.text)["jti"])
    claims = claims_of(token.text)
    assert claims["exp"] - claims["iat"] == HOUR
    assert token.expires_at == claims["exp"]
    assert claims["iss"] == "tobogganing"
    assert claims["aud"] == "tobogganing-manager"
    assert claims["scope"] == "metrics:write"
    header = jwt.get_unverified_header(token.text)
    assert (header["alg"], header["kid"]) == ("RS256", tokens.key_id)


def test_each_has_an_id_of_its_own(tokens: Tokens) -> None:
    ids = {claims_of(tokens.issue(node("h-1")).text)["jti"] for _ in range(5)}
    assert len(ids) == 5


def test_the_key_id_is_the_thumbprint_of_rfc_7638(signing_key: Secret, tokens: Tokens) -> None:
    key = serialization.load_pem_private_key(signing_key.reveal().encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    canonical = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    assert tokens.key_id == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_expired_and_not_yet_valid(tokens: Tokens) -> None:
    now = time.time()
    tokens.verify(tokens.issue(node("h"), now - HOUR + 60).text)
    tokens.verify(tokens.issue(node("h"), now + LEEWAY - 3).text)
    for issued in (now - HOUR - LEEWAY - 2, now + LEEWAY + 60, 0):
        with pytest.raises(TokenError):
            tokens.verify(tokens.issue(node("h"), issued).text)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "another"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"scope": "metrics:read"},
        {"scope": ["metrics:write"]},
        {"sub": 7},
        {"node_type": None},
        {"node_type": 1},
        {"exp": "soon"},
        {"exp": None},
        {"nbf": "x"},
    ],
)
def test_other_claims(signing_key: Secret, tokens: Tokens, change: dict[str, Any]) -> None:
    claims = claims_of(tokens.issue(node("h")).text) | change
    with pytest.raises(TokenError):
        tokens.verify(sign(claims, signing_key, kid=tokens.key_id))


@pytest.mark.parametrize(
    "claim", ["sub", "node_type", "scope", "iss", "aud", "iat", "nbf", "exp", "jti"]
)
def test_every_claim_is_required(signing_key: Secret, tokens: Tokens, claim: str) -> None:
    claims = claims_of(tokens.issue(node("h")).text)
    tokens.verify(sign(claims, signing_key, kid=tokens.key_id))
    del claims[claim]
    with pytest.raises(TokenError):
        tokens.verify(sign(claims, signing_key, kid=tokens.key_id))


def test_another_key_or_algorithm(signing_key: Secret, tokens: Tokens) -> None:
    claims = claims_of(tokens.issue(node("h")).text)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = serialization.load_pem_private_key(signing_key.reveal().encode(), None).public_key()
    public_pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = [
        jwt.encode(claims, other, "RS256", headers={"kid": tokens.key_id}),
        jwt.encode(claims, signing_key.reveal(), "RS512", headers={"kid": tokens.key_id}),
        jwt.encode(claims, signing_key.reveal(), "PS256", headers={"kid": tokens.key_id}),
        jwt.encode(claims, "", "none", headers={"kid": tokens.key_id}),
        hs256(claims, public_pem, tokens.key_id),
        sign(claims, signing_key, kid="another"),
        jwt.encode(claims, signing_key.reveal(), "RS256"),
    ]
    for text in forged:
        with pytest.raises(TokenError):
            tokens.verify(text)


def test_no_bit_of_it_may_change(tokens: Tokens) -> None:
    text = tokens.issue(node("h")).text
    for place in range(0, len(text) - 1, 7):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(TokenError):
            tokens.verify(changed)


@given(st.text(max_size=300))
def test_any_text_is_refused(tokens: Tokens, text: str) -> None:
    with pytest.raises(TokenError):
        tokens.verify(text)


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_three_parts_are_refused(
    tokens: Tokens, header: bytes, payload: bytes, signature: bytes
) -> None:
    parts = (base64.urlsafe_b64encode(part).decode() for part in (header, payload, signature))
    with pytest.raises(TokenError):
        tokens.verify(".".join(parts))


@pytest.mark.parametrize("pem", ["", "secret", "-----BEGIN PRIVATE KEY-----\nx\n-----END"])
def test_a_signing_key_that_is_none(pem: str) -> None:
    with pytest.raises(SettingsError, match="SIGNING_KEY"):
        Tokens(Secret(pem), "i", "a", HOUR)


def test_a_signing_key_of_another_kind() -> None:
    for key in (
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
    ):
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with pytest.raises(SettingsError, match="RSA key of at least 2048 bits"):
            Tokens(Secret(pem.decode()), "i", "a", HOUR)


def sign(claims: dict[str, Any], key: Secret, kid: str) -> str:
    """Sign claims that PyJWT itself may refuse to encode."""
    payload = json.dumps(claims).encode()
    return jwt.api_jws.encode(payload, key.reveal(), "RS256", headers={"kid": kid})


def hs256(claims: dict[str, Any], public_pem: bytes, kid: str) -> str:
    """The classic confusion: the public key used as an HMAC secret."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    header = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode())
    signed = f"{header}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.new(public_pem, signed.encode(), hashlib.sha256).digest())}"
