"""The gateway's metric families, including those of the manager that only a gateway counts."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.kinds import KINDS
from service.evidence import EvidenceMetrics
from service.metrics.fast_metrics import CounterChild, counter

Result = Literal["received", "refused", "unconfirmed", "overloaded"]
RESULTS: tuple[Result, ...] = ("received", "refused", "unconfirmed", "overloaded")

TokenResult = Literal["success", "failure", "expired"]
TOKEN_RESULTS: tuple[TokenResult, ...] = ("success", "failure", "expired")

EnrolmentResult = Literal["registered", "repeated", "exhausted", "refused", "unconfirmed"]
ENROLMENT_RESULTS: tuple[EnrolmentResult, ...] = (
    "registered",
    "repeated",
    "exhausted",
    "refused",
    "unconfirmed",
)

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_BYTES = (512, 2_048, 8_192, 32_768, 131_072, 262_144)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8)


class FrameMetrics:
    """Metrics of frames: size, duration and failures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._submissions = Histogram(
            "tobogganing_gateway_frame_submissions",
            "Submissions in a frame that Kafka acknowledged",
            buckets=_SIZES,
            registry=registry,
        )
        self._bytes = Histogram(
            "tobogganing_gateway_frame_size_bytes",
            "Size of a frame that Kafka acknowledged",
            buckets=_BYTES,
            registry=registry,
        )
        self._duration = Histogram(
            "tobogganing_gateway_produce_duration_seconds",
            "Time from sending a frame to Kafka's acknowledgement",
            buckets=_SECONDS,
            registry=registry,
        )
        self.late = Counter(
            "tobogganing_gateway_late_frames",
            "Frames that Kafka appended after their deadline, so that they are not applied",
            registry=registry,
        )
        self.failed = Counter(
            "tobogganing_gateway_failed_frames",
            "Frames that Kafka did not acknowledge",
            registry=registry,
        )
        self.reused_offsets = Counter(
            "tobogganing_gateway_reused_offsets",
            "Frames acknowledged at an offset at or before that of an earlier frame of the "
            "partition: Kafka has lost the end of the topic",
            registry=registry,
        )

    def frame(self, submissions: int, size: int, seconds: float) -> None:
        self._submissions.observe(submissions)
        self._bytes.observe(size)
        self._duration.observe(seconds)


class GatewayMetrics:
    """All metrics of a gateway except those of requests (service.metrics.requests)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = FrameMetrics(self.registry)
        self.producer_failures = Counter(
            "tobogganing_gateway_producer_failures",
            "Kafka producers that failed and were replaced",
            registry=self.registry,
        )
        self.evidence = EvidenceMetrics("gateway", self.registry)
        self.ignored = Counter(
            "tobogganing_gateway_ignored_metrics",
            "Metrics of submissions that were ignored because their names are unknown",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "tobogganing_gateway_waiting_submissions",
            "Submissions waiting for Kafka",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.stops_refused = Gauge(
            "tobogganing_gateway_stops_refused",
            "1 while Kafka does not allow this gateway to describe the processors' group, so that "
            "it does not know which partitions are stopped",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.registered = Gauge(
            "tobogganing_gateway_registered",
            "Registered entities by kind, as read by this gateway",
            ["kind"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.registered_limit = Gauge(
            "tobogganing_gateway_registered_limit",
            "Maximum number of registered entities by kind; 0 means no limit",
            ["kind"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.label_values = Gauge(
            "tobogganing_gateway_label_values",
            "Distinct values of a label among the registered clusters",
            ["label"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.label_values_limit = Gauge(
            "tobogganing_gateway_label_values_limit",
            "Maximum number of distinct values of a label; 0 means no limit",
            ["label"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        submissions = counter(
            "tobogganing_gateway_submissions",
            "Submissions and backlog samples by response: received (200), unconfirmed (503 at the "
            "deadline), overloaded (503 at once), refused (4xx); a body that was refused or not "
            "read counts once",
            ["kind", "result"],
            registry=self.registry,
        )
        self.submissions: dict[tuple[str, Result], CounterChild] = {
            (kind, result): submissions.labels(kind, result) for kind in KINDS for result in RESULTS
        }
        certificates = Counter(
            "tobogganing_manager_certificates_issued",
            "Certificates issued",
            ["type"],
            registry=self.registry,
        )
        self.certificates = {kind: certificates.labels(kind) for kind in KINDS}
        validated = Counter(
            "tobogganing_manager_jwt_tokens_validated",
            "Tokens that were verified, by result",
            ["result"],
            registry=self.registry,
        )
        self.tokens_validated = {result: validated.labels(result) for result in TOKEN_RESULTS}
        issued = Counter(
            "tobogganing_manager_jwt_tokens_issued",
            "Tokens issued",
            ["node_type"],
            registry=self.registry,
        )
        self.tokens_issued = {kind: issued.labels(kind) for kind in KINDS}
        self.tokens_revoked = Counter(
            "tobogganing_manager_jwt_tokens_revoked",
            "Revocations by reason: one token (jti), all tokens of a node (node), an API key that "
            "was replaced (key)",
            ["reason"],
            registry=self.registry,
        )
        self.registrations = Counter(
            "tobogganing_manager_client_registrations",
            "Registrations by type (a client's type, or the kind) and result",
            ["type", "result"],
            registry=self.registry,
        )
        enrolments = Counter(
            "tobogganing_gateway_enrolments",
            "Agents that came with a valid enrolment token, by the response: registered, repeated "
            "(a new key for an agent whose response was lost), exhausted (403: no use is left), "
            "refused (another 4xx), unconfirmed (503)",
            ["result"],
            registry=self.registry,
        )
        self.enrolments = {result: enrolments.labels(result) for result in ENROLMENT_RESULTS}
        self.enrolment_uses = Counter(
            "tobogganing_gateway_enrolment_uses",
            "Uses of enrolments that were claimed for agents",
            registry=self.registry,
        )
