"""Settings of the gateway."""

import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings, KafkaSettings, Secret


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(KafkaSettings, HttpSettings):
    admin_token: ReloadableTokens
    signing_keys_dir: str
    """Folder of RSA private keys, `*.pem`: tokens are signed with the last one by name."""
    ca_pem: Secret | None = None
    """Certificate and private key, PEM, of the CA that signs nodes' certificates."""
    certificate_days: Annotated[float, Meta(gt=0, le=3650)] = 90.0
    """How long a node's certificate is valid."""
    token_expiry_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    token_issuer: str = "tobogganing"
    token_audience: str = "tobogganing-manager"
    answer_within_seconds: Annotated[float, Meta(ge=1, lt=10)] = 8.0
    """How long Kafka may take before the answer is 503; clients wait 10 s."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 65_536
    max_queued_submissions: Annotated[int, Meta(ge=1)] = 20_000
    """Submissions that may wait for Kafka at once; more are answered 503 right away."""
    max_queued_bytes: Annotated[int, Meta(ge=2**20)] = 64 * 2**20
    """Bytes of submissions that may wait for Kafka at once."""
    rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 60
    """Submissions that one entity may make; 0: no limit."""
    relay_rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 0
    """Items that one relay may submit; 0: no limit."""
    enrolment_rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 6000
    """Agents that may enrol with one token; 0: no limit."""
    auth_failures_per_minute: Annotated[float, Meta(ge=0)] = 60
    """Failed attempts of one address that are answered 401; more are 429. 0: no limit."""

    max_clients: Annotated[int, Meta(ge=0)] = 1_000_000
    """Clients that may be registered; more are refused. 0: no limit."""
    max_headends: Annotated[int, Meta(ge=0)] = 100_000
    max_clusters: Annotated[int, Meta(ge=0)] = 10_000
    max_relays: Annotated[int, Meta(ge=0)] = 10_000
    max_enrolments: Annotated[int, Meta(ge=0)] = 10_000
    max_label_values: Annotated[int, Meta(ge=0)] = 1_000
    """Regions, and datacenters, that clusters may have; more are refused. 0: no limit."""

    def __post_init__(self) -> None:
        self.admin_token.exclude(self.metrics_token, "METRICS_TOKEN")
        self.metrics_token.exclude(self.admin_token, "ADMIN_TOKEN")

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        if {*self.admin_token.current()} & {*self.metrics_token.current()}:
            yield (
                "ADMIN_TOKEN and METRICS_TOKEN are the same: whoever may read metrics could change "
                "everything. Replace one with `openssl rand -hex 32` (docs/secrets.md)"
            )

    @property
    def token_lifetime(self) -> float:
        """Life of a token in seconds."""
        return self.token_expiry_hours * 3600

    @property
    def grace_seconds(self) -> int:
        """How long a stop waits: until every request in flight has been answered in its time."""
        return math.ceil(self.answer_within_seconds) + 1
