"""The audit record: who changed what, when, and from which address. It never contains a secret."""

from enum import Enum

import msgspec

AUDIT_VERSION = 1
REGISTRATIONS = "registrations"
"""Target of a change of many entities. `details` names them: for each kind its ids, separated by
spaces."""


class ChangeOutcome(Enum):
    """The outcome of a change."""

    ALLOWED = "allowed"
    """The change is about to be made. If no later record has the same `request`, the change was
    made, or the gateway died before it could write the outcome."""
    REFUSED = "refused"
    """The change was rejected; `reason` says why."""
    UNCONFIRMED = "unconfirmed"
    """Kafka did not confirm the change in time; it may still take effect."""


class AuditRecord(msgspec.Struct, omit_defaults=True):
    """One record of the audit topic. Its append time is the time of the change.

    `actor` is `admin` or an entity as `kind:id`. `target` is what changes, in the same form.
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

    def concerns(self, target: str) -> bool:
        """Whether `target`, as `kind:id`, is what changes, alone or as one of many."""
        kind, _, id = target.partition(":")
        return target == self.target or (
            self.target == REGISTRATIONS and id in self.details.get(kind, "").split()
        )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditRecord)


def encode_audit(record: AuditRecord) -> bytes:
    return _encoder.encode(record)


def decode_audit(value: bytes) -> AuditRecord:
    """Decode a record's value.

    Raises:
        DECODE_ERRORS: the value is not an audit record.
    """
    return _decoder.decode(value)
