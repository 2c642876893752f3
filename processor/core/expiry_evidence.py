"""Evidence of expired entities. Pure."""

from contract.evidence import (
    EVIDENCE_VERSION,
    PROCESSOR,
    Evidence,
    EvidenceReason,
    encode_evidence,
    evidence_key,
)
from contract.kinds import KINDS, is_id
from contract.row import EntityRow

MAX_MS = 2**53 - 1


def expiry_evidence(entity: bytes, row: EntityRow) -> tuple[bytes, bytes | None] | None:
    """Return key and value of the record about an entity whose row expires, None for the row of an
    unknown kind.

    A removed entity has no value: its record, if there is one, is deleted.
    """
    kind, _, id = entity.decode("utf-8", "replace").partition(":")
    if kind not in KINDS or not is_id(id):
        return None
    if row.removed:
        return evidence_key(entity, PROCESSOR, EvidenceReason.EXPIRED), None
    last_ms = round(min(max(row.last_check_in * 1000, 0.0), float(MAX_MS)))
    evidence = Evidence(
        version=EVIDENCE_VERSION,
        kind=kind,
        id=id,
        writer=PROCESSOR,
        reason=EvidenceReason.EXPIRED,
        count=1,
        first_ms=last_ms,
        last_ms=last_ms,
        incarnation=row.incarnation if 0 <= row.incarnation < 2**63 else None,
    )
    return evidence.key, encode_evidence(evidence)
