"""What the endpoints of the API have in common."""

import time
from typing import NamedTuple

from gateway.auth.actors import ActorAuthenticator
from gateway.metrics import GatewayMetrics
from gateway.registry.audit_log import AuditLog
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings


class ApiParts(NamedTuple):
    """The parts of a gateway that its endpoints use."""

    settings: GatewaySettings
    registry: RegistryWriter
    authenticator: ActorAuthenticator
    audit_log: AuditLog
    metrics: GatewayMetrics


class ApiEndpoints:
    """Base class of endpoints."""

    def __init__(self, parts: ApiParts) -> None:
        self._answer_within = parts.settings.answer_within_seconds
        self._max_body = parts.settings.max_body_bytes
        self._registry = parts.registry
        self._authenticator = parts.authenticator
        self._audit_log = parts.audit_log
        self._metrics = parts.metrics

    def _deadline(self) -> float:
        """Return the deadline of a request that arrives now, on the monotonic clock."""
        return time.monotonic() + self._answer_within
