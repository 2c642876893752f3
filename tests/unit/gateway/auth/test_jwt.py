"""Tokens: issued tokens are accepted, all others are refused."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from hypothesis import given
from hypothesis import strategies as st

from contract.registry import RECORD_VERSION, RegistryRecord
from gateway.auth import jwt as module
from gateway.auth.jwt import (
    LEEWAY,
    ExpiredError,
    JwtService,
    NoKeyError,
    TokenError,
    TokenIdentity,
    UnknownKeyError,
)
from gateway.auth.key_store import SigningKey
from gateway.auth.thumbprint import thumbprint
from gateway.produce.cluster_time import ClusterTime

HOUR = 3600
NOW = 1_700_000_000.0


class OneKey:
    """One key, which may have an expiry."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key = SigningKey("1", thumbprint(private.public_key()), private)
        self.end: int | None = None
        self.is_known = True

    def signing_key(self) -> tuple[SigningKey, int | None] | None:
        return (self.key, self.end) if self.is_known else None

    def public_key(self, kid: str) -> RSAPublicKey | None:
        known = self.is_known and kid == self.key.kid
        return self.key.private_key.public_key() if known else None


def tokens_of(
    keys: OneKey,
    lifetime: float = HOUR,
    now: Callable[[], float] = time.time,
    highest: Callable[[], float] = time.time,
) -> JwtService:
    return JwtService(keys, "tobogganing", "tobogganing-manager", lifetime, now, highest)


@pytest.fixture(scope="module")
def keys() -> OneKey:
    return OneKey()


@pytest.fixture(autouse=True)
def key_is_known(keys: OneKey) -> None:
    keys.end, keys.is_known = None, True


@pytest.fixture(scope="module")
def remembering(keys: OneKey) -> JwtService:
    """A JwtService for tests that draw many examples."""
    return tokens_of(keys)


@pytest.fixture
def signing_key(keys: OneKey) -> RSAPrivateKey:
    return keys.key.private_key


@pytest.fixture
def tokens(keys: OneKey) -> JwtService:
    return tokens_of(keys)


def node(id: str, kind: str = "headend") -> RegistryRecord:
    return RegistryRecord(RECORD_VERSION, kind, id, 1, "n", incarnation=7)


def claims_of(text: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return claims


def test_an_issued_token_identifies_its_node(tokens: JwtService, keys: OneKey) -> None:
    token = tokens.issue(node("h-1"))
    assert tokens.verify(token.text) == TokenIdentity(
        "headend", "h-1", 7, 0, claims_of(token.text)["jti"]
    )
    claims = claims_of(token.text)
    assert claims["exp"] - claims["iat"] == HOUR
    assert token.expires_at == claims["exp"]
    assert claims["iss"] == "tobogganing"
    assert claims["aud"] == "tobogganing-manager"
    assert claims["scope"] == "metrics:write"
    header = jwt.get_unverified_header(token.text)
    assert (header["alg"], header["kid"]) == ("RS256", keys.key.kid)


def test_each_token_has_a_unique_id(tokens: JwtService, keys: OneKey) -> None:
    ids = {claims_of(tokens.issue(node("h-1")).text)["jti"] for _ in range(5)}
    assert len(ids) == 5


def test_the_key_id_is_the_thumbprint_of_rfc_7638(signing_key: RSAPrivateKey) -> None:
    public = signing_key.public_key()
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    canonical = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    assert thumbprint(public) == hashlib.sha256(canonical.encode()).hexdigest()


def test_expired_and_future_tokens_are_refused(tokens: JwtService, keys: OneKey) -> None:
    now = time.time()
    tokens.verify(tokens.issue(node("h"), now - HOUR + 60).text)
    tokens.verify(tokens.issue(node("h"), now + LEEWAY - 3).text)
    for issued in (now - HOUR - LEEWAY - 2, now + LEEWAY + 60, 0):
        with pytest.raises(TokenError):
            tokens.verify(tokens.issue(node("h"), issued).text)


def test_a_broker_clock_that_is_behind_refuses_no_token(keys: OneKey) -> None:
    uptime = 1_000.0
    cluster = ClusterTime(lambda: uptime)

    def observe(broker: str, ahead: float) -> None:
        nonlocal uptime
        uptime += 1.5
        cluster.observe(broker, int((NOW + uptime + ahead) * 1000), 0.01)

    jwt_service = tokens_of(keys, HOUR, cluster.earliest_seconds, cluster.highest_seconds)
    for broker in ("a", "b"):
        observe(broker, 0)
    old = jwt_service.issue(node("h")).text
    observe("b", -HOUR)
    new = jwt_service.issue(node("h")).text
    for broker in ("a", "b"):
        for text in (old, new):
            jwt_service.verify(text)  # one clock is behind, then both
        observe(broker, -HOUR)
    for text in (old, new):
        jwt_service.verify(text)
    uptime += 2 * HOUR + LEEWAY
    with pytest.raises(ExpiredError):
        jwt_service.verify(old)


def test_a_gateway_that_starts_after_all_clocks_were_set_back_refuses_older_tokens(
    keys: OneKey,
) -> None:
    """It has never observed the start of their validity. New tokens are valid at once."""
    uptime = 1_000.0
    cluster = ClusterTime(lambda: uptime)
    cluster.observe("a", int((NOW + uptime - HOUR) * 1000), 0.01)
    jwt_service = tokens_of(keys, HOUR, cluster.earliest_seconds, cluster.highest_seconds)
    old = jwt_service.issue(node("h"), NOW + uptime).text
    new = jwt_service.issue(node("h")).text
    jwt_service.verify(new)
    with pytest.raises(TokenError, match="not valid yet"):
        jwt_service.verify(old)
    uptime += HOUR - LEEWAY
    jwt_service.verify(old)


def test_a_future_token_is_invalid_until_a_clock_reaches_its_start(keys: OneKey) -> None:
    now, highest = NOW - 10, NOW
    jwt_service = tokens_of(keys, HOUR, lambda: now, lambda: highest)
    text = jwt_service.issue(node("h"), NOW + 60).text
    for _ in range(2):
        with pytest.raises(TokenError, match="not valid yet"):
            jwt_service.verify(text)
    highest += 60
    jwt_service.verify(text)


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
def test_wrong_claims_are_refused(
    signing_key: RSAPrivateKey, tokens: JwtService, keys: OneKey, change: dict[str, Any]
) -> None:
    claims = claims_of(tokens.issue(node("h")).text) | change
    with pytest.raises(TokenError):
        tokens.verify(sign(claims, signing_key, kid=keys.key.kid))


@pytest.mark.parametrize(
    "claim", ["sub", "node_type", "scope", "iss", "aud", "iat", "nbf", "exp", "jti"]
)
def test_every_claim_is_required(
    signing_key: RSAPrivateKey, tokens: JwtService, keys: OneKey, claim: str
) -> None:
    claims = claims_of(tokens.issue(node("h")).text)
    tokens.verify(sign(claims, signing_key, kid=keys.key.kid))
    del claims[claim]
    with pytest.raises(TokenError):
        tokens.verify(sign(claims, signing_key, kid=keys.key.kid))


def test_tokens_with_another_key_or_algorithm_are_refused(
    signing_key: RSAPrivateKey, tokens: JwtService, keys: OneKey
) -> None:
    claims = claims_of(tokens.issue(node("h")).text)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = signing_key.public_key()
    public_pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = [
        jwt.encode(claims, other, "RS256", headers={"kid": keys.key.kid}),
        jwt.encode(claims, signing_key, "RS512", headers={"kid": keys.key.kid}),
        jwt.encode(claims, signing_key, "PS256", headers={"kid": keys.key.kid}),
        jwt.encode(claims, "", "none", headers={"kid": keys.key.kid}),
        hs256(claims, public_pem, keys.key.kid),
        sign(claims, signing_key, kid="another"),
        jwt.encode(claims, signing_key, "RS256"),
    ]
    for text in forged:
        with pytest.raises(TokenError):
            tokens.verify(text)


def test_a_token_with_any_changed_bit_is_refused(tokens: JwtService, keys: OneKey) -> None:
    text = tokens.issue(node("h")).text
    for place in range(0, len(text) - 1, 7):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(TokenError):
            tokens.verify(changed)


@given(st.text(max_size=300))
def test_any_text_is_refused(remembering: JwtService, text: str) -> None:
    with pytest.raises(TokenError):
        remembering.verify(text)


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_three_parts_are_refused(
    remembering: JwtService, header: bytes, payload: bytes, signature: bytes
) -> None:
    parts = (base64.urlsafe_b64encode(part).decode() for part in (header, payload, signature))
    with pytest.raises(TokenError):
        remembering.verify(".".join(parts))


def test_a_cached_token_still_expires(tokens: JwtService) -> None:
    now = time.time()
    text = tokens.issue(node("h"), now).text
    for _ in range(2):
        tokens.verify(text, now + HOUR)
        with pytest.raises(ExpiredError):
            tokens.verify(text, now + HOUR + LEEWAY + 1)
        with pytest.raises(TokenError):
            tokens.verify(text, now - LEEWAY - 2)


def test_a_cached_token_is_invalid_without_its_key(tokens: JwtService, keys: OneKey) -> None:
    text = tokens.issue(node("h")).text
    tokens.verify(text)
    keys.is_known = False
    with pytest.raises(UnknownKeyError):
        tokens.verify(text)


def test_a_second_verification_uses_the_cache(
    tokens: JwtService, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tokens.issue(node("h")).text
    identity = tokens.verify(text)
    monkeypatch.setattr(jwt, "decode", None)
    assert tokens.verify(text) == identity
    with pytest.raises(TokenError):
        tokens.verify(tokens.issue(node("h")).text)


def test_the_token_cache_is_bounded(tokens: JwtService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 3)
    used = tokens.issue(node("used")).text
    for number in range(20):
        tokens.verify(used)
        tokens.verify(tokens.issue(node(f"h-{number}")).text)
        assert len(tokens._recent) + len(tokens._older) <= 6
        assert used in tokens._recent or used in tokens._older


def test_refused_tokens_are_not_cached(tokens: JwtService, keys: OneKey) -> None:
    expired = tokens.issue(node("h"), time.time() - 2 * HOUR).text
    for text in (expired, "a.b.c", "x"):
        with pytest.raises(TokenError):
            tokens.verify(text)
    assert not tokens._recent


def test_a_shorter_lifetime_applies_to_issued_tokens(keys: OneKey) -> None:
    now = time.time()
    text = tokens_of(keys, 24 * HOUR).issue(node("h"), now).text
    shorter = tokens_of(keys)
    shorter.verify(text, now + HOUR - 1)
    with pytest.raises(ExpiredError):
        shorter.verify(text, now + HOUR + LEEWAY + 1)


def test_no_token_outlives_its_key(tokens: JwtService, keys: OneKey) -> None:
    now = int(time.time())
    keys.end = (now + 60) * 1000
    assert tokens.issue(node("h"), now).expires_at == now + 60


def test_without_a_key_no_token_is_issued(tokens: JwtService, keys: OneKey) -> None:
    keys.is_known = False
    with pytest.raises(NoKeyError):
        tokens.issue(node("h"))


@pytest.mark.parametrize(
    "kid", ["", "../../etc/passwd", "x" * 4000, 7, None, ["a"], {"a": 1}, "\ud800", "a\x00b"]
)
def test_forged_key_ids_are_refused(
    signing_key: RSAPrivateKey, tokens: JwtService, kid: Any
) -> None:
    claims = claims_of(tokens.issue(node("h")).text)
    header = _part(json.dumps({"alg": "RS256", "typ": "JWT", "kid": kid}).encode())
    signed = f"{header}.{_part(json.dumps(claims).encode())}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(
        signed.encode(), signing_key
    )
    with pytest.raises(TokenError):
        tokens.verify(f"{signed}.{_part(signature)}")


def test_a_key_in_the_token_header_is_not_used(tokens: JwtService, keys: OneKey) -> None:
    """A token whose header contains the key to verify it with."""
    mine = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    claims = claims_of(tokens.issue(node("h")).text)
    brought: list[dict[str, Any]] = [
        {"jwk": jwk},
        {"jwk": jwk, "kid": keys.key.kid},
        {"jku": "http://127.0.0.1/jwks.json", "kid": keys.key.kid},
        {"x5u": "http://127.0.0.1/cert.pem", "kid": keys.key.kid},
        {"kid": thumbprint(mine.public_key())},
        {"kid": keys.key.kid, "crit": ["exp"]},
    ]
    for headers in brought:
        with pytest.raises(TokenError):
            tokens.verify(jwt.encode(claims, mine, "RS256", headers=headers))


def sign(claims: dict[str, Any], key: RSAPrivateKey, kid: str) -> str:
    """Sign claims that PyJWT itself might refuse to encode."""
    payload = json.dumps(claims).encode()
    return jwt.api_jws.encode(payload, key, "RS256", headers={"kid": kid})


def hs256(claims: dict[str, Any], public_pem: bytes, kid: str) -> str:
    """Algorithm confusion: the public key used as an HMAC secret."""
    header = _part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode())
    signed = f"{header}.{_part(json.dumps(claims).encode())}"
    return f"{signed}.{_part(hmac.new(public_pem, signed.encode(), hashlib.sha256).digest())}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
