"""The audit record: who changed what, when and from where. It never holds a secret."""

from enum import Enum

import msgspec

AUDIT_VERSION = 1


class ChangeOutcome(Enum):
    """How far a change has come."""

    ALLOWED = "allowed"
    """It is about to be made. With no further record of the same `request` it was made, or its
    gateway died before it could tell."""
    REFUSED = "refused"
    """It was not made; `reason` says why."""
    UNCONFIRMED = "unconfirmed"
    """Kafka did not confirm it in time: it may still have been made."""


class AuditRecord(msgspec.Struct, omit_defaults=True):
    """One record of the audit topic, whose append time says when.

    `actor` is `admin` or an entity as `kind:id`, `target` what is changed, in the same form.
    """

    version: int
    request: str
    actor: str
    action: str
    target: str
    address: str
    outcome: ChangeOutcome
    details: dict[str, str] = {}
    reason: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditRecord)


def encode_audit(record: AuditRecord) -> bytes:
    return _encoder.encode(record)


def decode_audit(value: bytes) -> AuditRecord:
    """Decode a record's value.

    Raises:
        msgspec.DecodeError: it is no audit record.
    """
    return _decoder.decode(value)
