"""The record of the evidence topic: why an entity's submissions are missing.

Gateways write refused requests, processors unapplied submissions and expired entities. The key
names entity, writer and reason, so compaction keeps the newest record of each; its counts are those
of one writer. A record is a hint for people: nothing in the pipeline depends on it.

A refusal for a wrong credential is evidence about a network, not about the entity. A record
contains no credential, and only the network of an address.
"""

import ipaddress
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.decoding import DECODE_ERRORS
from contract.entity import entity_key
from contract.kinds import ID_PATTERN, KINDS

EVIDENCE_VERSION = 1
"""The version that is written. All versions up to it are read."""
PROCESSOR = "processor"
"""Writer of evidence from processors. A partition has one owner, so the name needs no instance, and
the next owner of the partition replaces the record."""
MAX_DETAIL = 200
SEPARATOR = "|"
"""Separates the parts of a key; ids and writers do not contain it."""


class EvidenceReason(Enum):
    """Why an entity's submissions are missing."""

    UNAUTHORIZED = "unauthorized"
    """A request used a wrong or expired credential for the entity (401; 429 after too many)."""
    RATE_LIMITED = "rate_limited"
    """The entity sent too many requests (429)."""
    INVALID = "invalid"
    """A gateway refused the body of a submission (400)."""
    TOO_LARGE = "too_large"
    """The body was too large (413)."""
    UNSUPPORTED = "unsupported"
    """The media type or encoding is not supported (415)."""
    OUT_OF_SCOPE = "out_of_scope"
    """A relay submitted for the entity, which is not in the relay's scope."""
    STALE = "stale"
    """A submission was accepted and is older than what is known."""
    LATE = "late"
    """Kafka appended a submission after its deadline; its sender got 503."""
    DEAD_LETTERED = "dead_lettered"
    """A submission was accepted and could not be applied."""
    EXPIRED = "expired"
    """The entity was silent for the retention time, so its row was removed."""


Milliseconds = Annotated[int, Meta(ge=0, lt=2**53)]


class Evidence(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """The evidence of one writer for one reason; times are in milliseconds since the epoch.

    `count` is the number of cases from `first_ms` to `last_ms`, by the writer's clock; processors
    use Kafka's time. `network` is that of the newest refusal. `receipt` is that of the newest
    submission that was not applied. If the entity has expired, `last_ms` is its last check-in, and
    `incarnation` identifies the registration that it reported for.
    """

    version: int
    kind: str
    id: Annotated[str, Meta(pattern=rf"^{ID_PATTERN}\Z")]
    writer: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
    reason: EvidenceReason
    count: Annotated[int, Meta(ge=1, lt=2**53)]
    first_ms: Milliseconds = msgspec.field(name="first")
    last_ms: Milliseconds = msgspec.field(name="last")
    network: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    receipt: Annotated[str, Meta(max_length=64)] = ""
    incarnation: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None

    @property
    def entity(self) -> bytes:
        """Key of the entity's row."""
        return entity_key(self.kind, self.id)

    @property
    def key(self) -> bytes:
        return evidence_key(self.entity, self.writer, self.reason)


class EvidenceError(ValueError):
    """A record of the evidence topic that cannot be decoded."""


def evidence_key(entity: bytes, writer: str, reason: EvidenceReason) -> bytes:
    """Return the key of a record."""
    return SEPARATOR.encode().join((entity, writer.encode(), reason.value.encode()))


def parse_evidence_key(key: bytes) -> tuple[bytes, str, EvidenceReason]:
    """Return the entity, the writer and the reason in a key.

    Raises:
        EvidenceError: it is not the key of a record.
    """
    try:
        entity, writer, reason = key.decode("ascii").split(SEPARATOR)
        return entity.encode(), writer, EvidenceReason(reason)
    except ValueError as error:
        raise EvidenceError(f"not the key of evidence: {key!r}") from error


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Evidence)


def encode_evidence(evidence: Evidence) -> bytes:
    return _encoder.encode(evidence)


def decode_evidence(key: bytes, value: bytes) -> Evidence:
    """Decode a record.

    Raises:
        EvidenceError: it is not evidence of a supported version, or its key belongs to another
            record.
    """
    try:
        evidence = _decoder.decode(value)
    except DECODE_ERRORS as error:
        raise EvidenceError(f"not evidence: {error}") from error
    if not 1 <= evidence.version <= EVIDENCE_VERSION:
        raise EvidenceError(f"evidence version {evidence.version} is not supported")
    if evidence.kind not in KINDS or evidence.key != key:
        raise EvidenceError(f"evidence of {evidence.kind}:{evidence.id} has the key {key!r}")
    return evidence


def network_of(address: str) -> str:
    """Return the /24 network of an IPv4 address or the /64 of an IPv6 address; "" for other
    text."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Network((int(ip), 24), strict=False))
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
