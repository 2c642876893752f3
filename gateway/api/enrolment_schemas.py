"""Bodies and responses of enrolment."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contract.kinds import ID_PATTERN
from gateway.api.schemas import CLIENT_TYPES, ApiKey, Certificate, Csr, DateTime, Id, Text

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


class EnrolmentCreated(msgspec.Struct):
    enrolment_id: str
    token: EnrolmentToken


class Enrolling(msgspec.Struct):
    name: Text
    client_id: Id | None = None
    headend_id: Id | None = None
    csr: Csr | None = None
    nonce: Nonce | None = None


class Enrolled(msgspec.Struct):
    """What a registration of a client or a headend responds."""

    api_key: ApiKey
    client_id: str | UnsetType = UNSET
    headend_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    certificate: Certificate | UnsetType = UNSET
    ca_certificate: Certificate | UnsetType = UNSET
    expires_at: DateTime | UnsetType = UNSET
