"""Refused requests of registered entities, as evidence of why an entity is silent.

Only registered clients and headends have evidence, so invented ids write nothing. A refusal is
noted after its response was sent, and in the same way for every id: neither the response nor its
timing shows whether an id is registered.
"""

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import Scope

from contract.entity import entity_key
from contract.evidence import EvidenceReason, network_of
from contract.kinds import KINDS
from contract.registry import RegistryRecord
from contract.registry_state import RegistryState
from service.evidence import EvidenceLog
from service.http.errors import ApiError
from service.metrics.requests import address_of

BODY_REASONS = {
    400: EvidenceReason.INVALID,
    413: EvidenceReason.TOO_LARGE,
    415: EvidenceReason.UNSUPPORTED,
}
"""Reasons by the status of a response to an authenticated request with an invalid body."""
MAX_ITEMS = 100
"""Maximum number of refused items of one batch that are noted."""


class RefusalRecorder:
    """Notes refused requests in an evidence log."""

    def __init__(self, registered: RegistryState, evidence: EvidenceLog) -> None:
        self._registered = registered
        self._evidence = evidence

    def unauthorized(self, kind: str, id: str, scope: Scope, detail: str = "") -> None:
        """Note a request with a wrong credential for an id, which need not be registered."""
        network = network_of(address_of(scope))
        self._later(lambda: self._note(kind, id, EvidenceReason.UNAUTHORIZED, network, detail))

    def rate_limited(self, record: RegistryRecord, detail: str) -> None:
        """Note a request of an entity that exceeds its rate."""
        self._later(
            lambda: self._note(record.kind, record.id, EvidenceReason.RATE_LIMITED, "", detail)
        )

    def body(self, kind: str, id: str, error: ApiError) -> None:
        """Note an authenticated request whose body was refused; other errors are ignored."""
        reason = BODY_REASONS.get(error.status)
        if reason is not None:
            self._later(lambda: self._note(kind, id, reason, "", str(error)))

    def items(self, refused: Sequence[tuple[str, str, str, bool]], relay: str) -> None:
        """Note refused items of a relay's batch: kind, id, error, and whether the relay may submit
        for the entity."""

        def note() -> None:
            for kind, id, error, is_in_scope in refused:
                reason = EvidenceReason.INVALID if is_in_scope else EvidenceReason.OUT_OF_SCOPE
                detail = f"relay {relay}: {error}" if is_in_scope else f"relay {relay}"
                self._note(kind, id, reason, "", detail)

        if refused:
            self._later(note)

    def _later(self, note: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(note)

    def _note(self, kind: str, id: str, reason: EvidenceReason, network: str, detail: str) -> None:
        if kind in KINDS and self._registered.get(entity_key(kind, id)) is not None:
            self._evidence.note(kind, id, reason, network=network, detail=detail)
