"""Settings of the gateway."""

import math
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from service.settings import HttpSettings, KafkaSettings, Secret


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(KafkaSettings, HttpSettings):
    admin_token: Secret
    signing_key: Secret
    """RSA private key, PEM: headends' tokens are signed with it."""
    token_expiry_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    token_issuer: str = "tobogganing"
    token_audience: str = "tobogganing-manager"
    answer_within_seconds: Annotated[float, Meta(ge=1, lt=10)] = 8.0
    """How long Kafka may take before the answer is 503; clients wait 10 s."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 65_536
    max_queued_submissions: Annotated[int, Meta(ge=1)] = 20_000
    """Submissions that may wait for Kafka at once; more are answered 503 right away."""

    @property
    def grace_seconds(self) -> int:
        """How long a stop waits: until every request in flight has been answered in its time."""
        return math.ceil(self.answer_within_seconds) + 1
