"""Bodies and responses of enrolment."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contract.enrolment import (
    AGENT_KIND,
    AGENT_TYPE,
    claimable_uses,
    ends_ms,
    has_ended,
    last_use_ms,
    max_uses,
    uses,
)
from contract.kinds import ID_PATTERN
from contract.registry import RegistryRecord
from gateway.api.schemas import (
    CLIENT_TYPES,
    ApiKey,
    Certificate,
    Csr,
    DateTime,
    Id,
    Registered,
    Text,
    rfc3339,
)

MAX_LIFE = 366 * 86_400
"""Seconds after which an enrolment that ends must have ended."""

IdPrefix = Annotated[
    str, Meta(min_length=1, max_length=64, extra_json_schema={"pattern": f"^{ID_PATTERN}$"})
]
Nonce = Annotated[
    str,
    Meta(
        min_length=16,
        max_length=128,
        description="Random, and the same in repetitions of a request whose response was lost.",
    ),
]
EnrolmentToken = Annotated[str, Meta(description="Shown this once: only its hash is kept.")]


class EnrolmentCreation(msgspec.Struct):
    name: Text
    kind: Literal["client", "headend"]
    type: Annotated[str, Meta(extra_json_schema={"enum": list(CLIENT_TYPES)})] | None = None
    cluster_id: Id | None = None
    max_uses: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    expires_in_seconds: Annotated[float, Meta(ge=1, le=MAX_LIFE)] | None = None
    id_prefix: IdPrefix | None = None
    enrolment_id: Id | None = None


class EnrolmentCreated(Registered):
    enrolment_id: str
    token: EnrolmentToken


class Enrolling(msgspec.Struct):
    name: Text
    client_id: Id | None = None
    headend_id: Id | None = None
    csr: Csr | None = None
    nonce: Nonce | None = None


class Enrolled(Registered):
    """What a registration of a client or a headend responds."""

    api_key: ApiKey
    client_id: str | UnsetType = UNSET
    headend_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    certificate: Certificate | UnsetType = UNSET
    ca_certificate: Certificate | UnsetType = UNSET
    expires_at: DateTime | UnsetType = UNSET


def enrolment_fields(record: RegistryRecord, now: int) -> dict[str, object]:
    """Fields of an enrolment that are computed; `now` is in milliseconds since the epoch."""
    fields: dict[str, object] = {"kind": record.attributes[AGENT_KIND]}
    if AGENT_TYPE in record.attributes:
        fields["type"] = record.attributes[AGENT_TYPE]
    fields |= {"state": _state(record, now), "uses": uses(record)}
    if (limit := max_uses(record)) is not None:
        fields["max_uses"] = limit
    if (last := last_use_ms(record)) is not None:
        fields["last_used_at"] = rfc3339(last // 1000)
    if (end := ends_ms(record)) is not None:
        fields["expires_at"] = rfc3339(end // 1000)
    return fields


def _state(record: RegistryRecord, now: int) -> str:
    if has_ended(record, now):
        return "expired"
    return "active" if claimable_uses(record, 1) else "exhausted"
