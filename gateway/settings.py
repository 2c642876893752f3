"""Settings of the gateway."""

import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpsSettings, KafkaSettings, Secret


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(KafkaSettings, HttpsSettings):
    admin_token: ReloadableTokens
    signing_keys_dir: str
    """Folder of RSA private keys, `*.pem`; the last one by name signs tokens."""
    ca_pem: Secret | None = None
    """Certificate and private key (PEM) of the CA that signs the certificates of nodes."""
    ca_previous_pem: Secret | None = None
    """Certificates (PEM, without keys) of earlier CAs, whose node certificates still count."""
    certificate_days: Annotated[float, Meta(gt=0, le=3650)] = 90.0
    """Lifetime of a node's certificate in days."""
    mtls: Literal["off", "on"] = "off"
    """Whether nodes authenticate with the client certificates that trusted proxies forward."""
    token_expiry_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    token_issuer: str = "tobogganing"
    token_audience: str = "tobogganing-manager"
    answer_within_seconds: Annotated[float, Meta(ge=1, lt=10)] = 8.0
    """Seconds that a request waits for Kafka before it gets 503; clients time out after 10 s."""
    linger_ms: Annotated[int, Meta(ge=0)] = 100
    """Maximum milliseconds that a submission waits under load, so that others share its request to
    Kafka; 0: no waiting."""
    frame_compression: Literal["zstd", "none"] = "zstd"
    """`none` while processors or exporters run that cannot read compressed frames."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 65_536
    max_queued_submissions: Annotated[int, Meta(ge=1)] = 20_000
    """Maximum number of submissions that wait for Kafka; more are refused with 503 at once."""
    max_queued_bytes: Annotated[int, Meta(ge=2**20)] = 64 * 2**20
    """Maximum number of bytes of the submissions that wait for Kafka."""
    rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 60
    """Maximum number of submissions of one entity per minute; 0 means no limit."""
    relay_rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 0
    """Maximum number of items of one relay per minute; 0 means no limit."""
    enrolment_rate_limit_per_minute: Annotated[float, Meta(ge=0)] = 6000
    """Agents that may enrol with one token; 0: no limit."""
    auth_failures_per_minute: Annotated[float, Meta(ge=0)] = 60
    """Failed attempts per minute and address that get 401; further ones get 429. 0: no limit."""

    max_clients: Annotated[int, Meta(ge=0)] = 1_000_000
    """Maximum number of registered clients; 0 means no limit."""
    max_headends: Annotated[int, Meta(ge=0)] = 100_000
    max_clusters: Annotated[int, Meta(ge=0)] = 10_000
    max_relays: Annotated[int, Meta(ge=0)] = 10_000
    max_enrolments: Annotated[int, Meta(ge=0)] = 10_000
    max_label_values: Annotated[int, Meta(ge=0)] = 1_000
    """Maximum number of regions, and of datacenters, among the clusters; 0 means no limit."""

    def __post_init__(self) -> None:
        self.admin_token.exclude(self.metrics_token, "METRICS_TOKEN")
        self.metrics_token.exclude(self.admin_token, "ADMIN_TOKEN")

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        if self.linger_seconds >= self.answer_within_seconds / 4:
            yield (
                f"LINGER_MS={self.linger_ms} must be below a quarter of "
                f"ANSWER_WITHIN_SECONDS={self.answer_within_seconds:g}"
            )
        yield from self._mtls_faults()
        if {*self.admin_token.current()} & {*self.metrics_token.current()}:
            yield (
                "ADMIN_TOKEN and METRICS_TOKEN are equal, so a scraper's token could change "
                "everything: replace one with `openssl rand -hex 32` (docs/secrets.md)"
            )

    def _mtls_faults(self) -> Iterator[str]:
        if not self.is_mtls:
            return
        if self.ca_pem is None:
            yield "CA_PEM (or CA_PEM_FILE) is not set: MTLS=on needs it"
        if not self.trusted_proxies:
            yield "TRUSTED_PROXIES is not set: MTLS=on needs the addresses of the proxies"
        for network in self.trusted_proxies:
            if not network.prefixlen:
                yield f"TRUSTED_PROXIES={network} must not be every address with MTLS=on"

    @property
    def is_mtls(self) -> bool:
        return self.mtls == "on"

    @property
    def token_lifetime(self) -> float:
        """Lifetime of a token in seconds."""
        return self.token_expiry_hours * 3600

    @property
    def linger_seconds(self) -> float:
        return self.linger_ms / 1000

    @property
    def grace_seconds(self) -> int:
        """Seconds that a stop waits for the requests in flight to be completed."""
        return math.ceil(self.answer_within_seconds) + 1
