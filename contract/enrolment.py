"""Enrolments: tokens with which agents register themselves, and how their uses are counted. Pure.

The record of an enrolment is one of the registry's (contract.registry). A gateway claims uses by
writing its next revision, so of two claims that were made from the same revision one counts.
Everything specific to enrolments is in `attributes`: a gateway of an older version copies records
of unknown kinds with their attributes.

The token's digest is in `expiring_keys` if the enrolment has an end, else in `api_keys`.
"""

import hashlib

import msgspec

from contract.registry import ENROLMENT, RECORD_VERSION, RegistryRecord

REPEAT_MS = 3_600_000
"""Milliseconds for which an agent may repeat an enrolment whose response was lost."""

ENROLMENT_ID = "enrolment_id"
"""Attribute of a registration: the enrolment that it was made with."""
AGENT_KIND, AGENT_TYPE = "agent_kind", "agent_type"
"""Attributes of an enrolment: what its agents are registered as."""
_NONCE, _NONCE_UNTIL = "nonce", "nonce_until"
"""Attributes of a registration that the agent may repeat: the digest of its nonce, and the end."""


def new_enrolment(
    id: str,
    name: str,
    digest: str,
    attributes: dict[str, str],
    *,
    max_uses: int | None = None,
    ends_ms: int | None = None,
    dropped_ms: int | None = None,
) -> RegistryRecord:
    """Make the record of an enrolment.

    `attributes` holds AGENT_KIND, with AGENT_TYPE of clients or the `cluster_id` of headends, and
    the `id_prefix`, if any. `digest` is that of the token. The record may be dropped from
    `dropped_ms` on.
    """
    if max_uses is not None:
        attributes = attributes | {"max_uses": str(max_uses)}
    if ends_ms is not None:
        attributes = attributes | {"ends": str(ends_ms)}
    return RegistryRecord(
        version=RECORD_VERSION,
        kind=ENROLMENT,
        id=id,
        revision=1,
        name=name,
        attributes=attributes,
        api_keys=[digest] if ends_ms is None else [],
        # Accepted for a while after the end: a response that was lost just before it is repeated.
        expiring_keys={} if ends_ms is None else {digest: ends_ms + REPEAT_MS},
        expires_at_ms=dropped_ms,
    )


def uses(enrolment: RegistryRecord) -> int:
    """Number of uses that are claimed."""
    return int(enrolment.attributes.get("uses", "0"))


def max_uses(enrolment: RegistryRecord) -> int | None:
    """How often it may be used; None: without limit."""
    return _number(enrolment, "max_uses")


def last_use_ms(enrolment: RegistryRecord) -> int | None:
    """When uses were last claimed, in milliseconds since the epoch; None: never."""
    return _number(enrolment, "last_use")


def ends_ms(enrolment: RegistryRecord) -> int | None:
    """When it ends, in milliseconds since the epoch; None: never."""
    return _number(enrolment, "ends")


def has_ended(enrolment: RegistryRecord, now: int) -> bool:
    """Return whether it has ended at `now`, in milliseconds since the epoch."""
    end = ends_ms(enrolment)
    return end is not None and end <= now


def claimable_uses(enrolment: RegistryRecord, wanted: int) -> int:
    """How many of the `wanted` uses are left."""
    limit = max_uses(enrolment)
    return wanted if limit is None else max(0, min(wanted, limit - uses(enrolment)))


def with_claimed(enrolment: RegistryRecord, count: int, now: int) -> RegistryRecord:
    """The record that follows from it when `count` more uses are claimed at `now`."""
    claimed = {"uses": str(uses(enrolment) + count), "last_use": str(now)}
    return msgspec.structs.replace(enrolment, attributes=enrolment.attributes | claimed)


def id_for_nonce(enrolment: RegistryRecord, nonce: str, prefix: str) -> str:
    """Id of the agent that enrols with this nonce, the same at every gateway."""
    text = f"{enrolment.id}:{enrolment.incarnation}:{nonce}"
    return prefix + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def enrolled_attributes(enrolment: RegistryRecord, nonce: str | None, now: int) -> dict[str, str]:
    """Attributes of a registration by enrolment; `now` is in milliseconds since the epoch."""
    attributes = {ENROLMENT_ID: enrolment.id}
    if nonce is not None:
        attributes[_NONCE] = _nonce_digest(enrolment, nonce)
        attributes[_NONCE_UNTIL] = str(now + REPEAT_MS)
    return attributes


def may_repeat(
    registered: RegistryRecord, enrolment: RegistryRecord, nonce: str | None, now: int
) -> bool:
    """Return whether an agent with this nonce made the registration and may repeat it at `now`."""
    until = _number(registered, _NONCE_UNTIL)
    return (
        nonce is not None
        and until is not None
        and now < until
        and registered.attributes.get(_NONCE) == _nonce_digest(enrolment, nonce)
    )


def without_nonce(registered: RegistryRecord) -> dict[str, str]:
    """Attributes of a registration that can no longer be repeated."""
    return {
        name: value
        for name, value in registered.attributes.items()
        if name not in (_NONCE, _NONCE_UNTIL)
    }


def _nonce_digest(enrolment: RegistryRecord, nonce: str) -> str:
    text = f"{enrolment.incarnation}:{nonce}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _number(record: RegistryRecord, attribute: str) -> int | None:
    value = record.attributes.get(attribute)
    return None if value is None else int(value)
