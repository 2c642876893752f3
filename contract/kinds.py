"""Entity kinds: metrics, labels, validation and rendering of each kind are declared here.

Registration is separate: docs/extending.md.
"""

import re
from dataclasses import dataclass
from typing import Literal

MAX_METRIC_VALUE = 2**63
"""Largest value of a metric: the maximum of a signed 64-bit counter, rounded up."""

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ID = re.compile(ID_PATTERN)
_REFUSED = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Control characters and all line separators at which Python's str.splitlines splits."""
TEXT_PATTERN = rf"^[^{_REFUSED}]*$"
"""The characters that `is_text` accepts, for OpenAPI. JSON contains no lone surrogates."""
_CHARACTER = re.compile(rf"[{_REFUSED}\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Replaces a forbidden character in a name that was registered before the character was forbidden.
"""


def is_id(text: str) -> bool:
    """Return whether `text` is a well-formed entity id."""
    return _ID.fullmatch(text) is not None


def is_text(text: str) -> bool:
    """Return whether `text` is a valid name or label value."""
    return text_fault(text) is None


def text_fault(text: str) -> str | None:
    """Return why a name or label value is invalid, as a predicate, or None if it is valid."""
    if not 1 <= len(text) <= 255:
        return "must have 1 to 255 characters"
    return character_fault(text)


def character_fault(text: str) -> str | None:
    """Return why a text of any length is invalid, or None. Lone surrogates are invalid, too."""
    found = _CHARACTER.search(text)
    if found is None:
        return None
    return (
        f"must not contain U+{ord(found[0]):04X}: remove it "
        "(control characters and line separators are not allowed)"
    )


def replace_refused(text: str) -> str:
    """Replace each character that `character_fault` reports with REPLACEMENT."""
    return _CHARACTER.sub(REPLACEMENT, text)


Semantic = Literal["gauge", "counter", "uptime"]
FleetAggregate = Literal["sum", "average", "max"]
"""What /metrics/fleet shows of a gauge, of all entities of a group that are online."""

OTHER_GROUP = "other"
"""Value of every label of the group of all entities beyond a kind's `max_groups`."""

BYTES_PER_SECOND = 12.5e9
"""100 Gbit/s, above the link speed of any client or headend."""
PACKETS_PER_SECOND = 150e6
"""Rate of minimum-size packets at 100 Gbit/s."""


@dataclass(frozen=True)
class Metric:
    """One metric of an entity: `field` in a submission, `name` on /metrics.

    All are gauges to Prometheus. `semantic` says what the agent's value means. A counter starts at
    0 with the agent and grows by at most `max_value` a second. An uptime is the number of seconds
    since the agent started. For a gauge, `max_value` is the largest plausible value. `fleet` is
    what /metrics/fleet shows of a gauge; of a counter it shows the total of all entities.
    """

    field: str
    name: str
    help: str
    type: Literal["integer", "float"] = "integer"
    semantic: Semantic = "gauge"
    max_value: float = float("inf")
    fleet: tuple[FleetAggregate, ...] = ()

    @property
    def fleet_name(self) -> str:
        """Name of its families on /metrics/fleet, without their suffix."""
        return self.name.replace("tobogganing_", "tobogganing_fleet_", 1)


@dataclass(frozen=True)
class Label:
    """One label of every series of an entity.

    `registered`: the registry has a value. `submitted`: the agent may send a value as `field`; the
    last one sent takes precedence over the registered value and over `default`.
    """

    name: str
    registered: bool = False
    submitted: Literal["boolean", "text"] | None = None
    field: str = ""
    default: str = ""


@dataclass(frozen=True)
class EntityKind:
    """Everything that is specific to one kind of entity."""

    name: str
    collection: str
    """Path segment of the kind's endpoints: /api/v1/<collection>/…"""
    id_label: str
    labels: tuple[Label, ...]
    metrics: tuple[Metric, ...]
    last_check_in: Metric
    credential: Literal["api_key", "jwt"]
    group_labels: tuple[str, ...]
    """Labels with few values, by which /metrics/fleet groups entities."""
    max_groups: int
    """Groups that /metrics/fleet shows; further ones are in the group OTHER_GROUP."""
    types: tuple[str, ...] = ()
    """Valid values of the label `type`; empty if the kind has no such label."""

    @property
    def label_names(self) -> tuple[str, ...]:
        return (self.id_label, *(label.name for label in self.labels))

    @property
    def counters(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.semantic == "counter")

    @property
    def families(self) -> tuple[Metric, ...]:
        """Metrics in the order of /metrics."""
        return (*self.metrics, self.last_check_in)


CLIENT = EntityKind(
    name="client",
    collection="clients",
    id_label="client_id",
    labels=(
        Label("name", registered=True),
        Label("type", registered=True),
        Label("headless", submitted="boolean", field="headless", default="false"),
    ),
    metrics=(
        Metric(
            "bytes_sent",
            "tobogganing_client_bytes_sent",
            "Bytes sent by client",
            semantic="counter",
            max_value=BYTES_PER_SECOND,
        ),
        Metric(
            "bytes_received",
            "tobogganing_client_bytes_received",
            "Bytes received by client",
            semantic="counter",
            max_value=BYTES_PER_SECOND,
        ),
        Metric(
            "packets_sent",
            "tobogganing_client_packets_sent",
            "Packets sent by client",
            semantic="counter",
            max_value=PACKETS_PER_SECOND,
        ),
        Metric(
            "packets_received",
            "tobogganing_client_packets_received",
            "Packets received by client",
            semantic="counter",
            max_value=PACKETS_PER_SECOND,
        ),
        Metric(
            "connection_uptime",
            "tobogganing_client_connection_uptime_seconds",
            "Connection uptime",
            type="float",
            semantic="uptime",
        ),
    ),
    last_check_in=Metric(
        "last_check_in",
        "tobogganing_client_last_check_in_timestamp",
        "Last check-in time",
        type="float",
    ),
    credential="api_key",
    group_labels=("type", "headless"),
    max_groups=20,
    types=("native", "docker", "mobile"),
)

HEADEND = EntityKind(
    name="headend",
    collection="headends",
    id_label="headend_id",
    labels=(
        Label("name", registered=True, submitted="text", field="headend_name"),
        Label("region", registered=True),
        Label("datacenter", registered=True),
    ),
    metrics=(
        Metric(
            "active_connections",
            "tobogganing_headend_active_connections",
            "Active connections",
            fleet=("sum",),
        ),
        Metric(
            "bandwidth_in",
            "tobogganing_headend_bandwidth_in_bytes",
            "Incoming bandwidth",
            max_value=BYTES_PER_SECOND,
            fleet=("sum",),
        ),
        Metric(
            "bandwidth_out",
            "tobogganing_headend_bandwidth_out_bytes",
            "Outgoing bandwidth",
            max_value=BYTES_PER_SECOND,
            fleet=("sum",),
        ),
        Metric(
            "cpu_usage",
            "tobogganing_headend_cpu_usage_percent",
            "CPU usage percentage",
            type="float",
            fleet=("average", "max"),
        ),
        Metric(
            "memory_usage",
            "tobogganing_headend_memory_usage_bytes",
            "Memory usage",
            fleet=("sum",),
        ),
    ),
    last_check_in=Metric(
        "last_check_in",
        "tobogganing_headend_last_check_in_timestamp",
        "Last check-in time",
        type="float",
    ),
    credential="jwt",
    group_labels=("region", "datacenter"),
    max_groups=100,
)

KINDS: dict[str, EntityKind] = {kind.name: kind for kind in (CLIENT, HEADEND)}

TYPE_ALIASES = {"client_native": "native", "client_docker": "docker", "client_mobile": "mobile"}
"""Longer type names, which the product's own clients send."""
