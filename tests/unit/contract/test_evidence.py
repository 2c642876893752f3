"""The record of the evidence topic."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.evidence import (
    MAX_DETAIL,
    PROCESSOR,
    Evidence,
    EvidenceError,
    EvidenceReason,
    decode_evidence,
    encode_evidence,
    network_of,
    parse_evidence_key,
)

times = st.integers(0, 2**53 - 1)
evidences = st.builds(
    Evidence,
    version=st.just(1),
    kind=st.sampled_from(("client", "headend")),
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True),
    writer=st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True),
    reason=st.sampled_from(EvidenceReason),
    count=st.integers(1, 2**53 - 1),
    first_ms=times,
    last_ms=times,
    network=st.text(max_size=64),
    detail=st.text(max_size=MAX_DETAIL),
    receipt=st.text(max_size=64),
    incarnation=st.none() | st.integers(0, 2**63 - 1),
)


@given(evidences)
def test_a_record_round_trips_with_its_key(evidence: Evidence) -> None:
    try:
        value = encode_evidence(evidence)
    except UnicodeEncodeError:  # half of a surrogate pair, which no JSON contains
        return
    assert decode_evidence(evidence.key, value) == evidence
    entity = f"{evidence.kind}:{evidence.id}".encode()
    assert parse_evidence_key(evidence.key) == (entity, evidence.writer, evidence.reason)


@given(st.binary(max_size=100), st.binary(max_size=300))
def test_anything_else_raises_only_evidence_error(key: bytes, value: bytes) -> None:
    for decode in (lambda: decode_evidence(key, value), lambda: parse_evidence_key(key)):
        with pytest.raises(EvidenceError):
            decode()


EVIDENCE = Evidence(1, "client", "a", PROCESSOR, EvidenceReason.STALE, 1, 2, 3)


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        (b"client:b|processor|stale", b"", b""),
        (b"client:a|gateway-1|stale", b"", b""),
        (b"client:a|processor|late", b"", b""),
        (EVIDENCE.key, b'"version":1', b'"version":2'),
        (EVIDENCE.key, b'"stale"', b'"unheard-of"'),
        (EVIDENCE.key, b'"count":1', b'"count":0'),
        (EVIDENCE.key, b'"count":1', b'"count":%d' % 10**400),
        (b"cluster:a|processor|stale", b'"client"', b'"cluster"'),
        (b"client:a\n|processor|stale", b'"id":"a"', b'"id":"a\\n"'),
    ],
)
def test_what_does_not_belong_together_is_refused(key: bytes, old: bytes, new: bytes) -> None:
    value = encode_evidence(EVIDENCE)
    assert old in value
    with pytest.raises(EvidenceError):
        decode_evidence(key, value.replace(old, new) if old else value)


@given(st.ip_addresses())
def test_an_address_is_stored_as_its_network(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    network = ipaddress.ip_network(network_of(str(address)))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert (mapped or address) in network
    assert network.prefixlen == (24 if network.version == 4 else 64)


@pytest.mark.parametrize("text", ["unknown", "", "192.0.2.7:80", "secret", "::ffff:x"])
def test_what_is_no_address_has_no_network(text: str) -> None:
    assert network_of(text) == ""
    assert network_of("fe80::1%eth0") == "fe80::/64"
