"""What responses say of an enrolment."""

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
from contract.registry import RegistryRecord
from gateway.api.schemas import rfc3339


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
