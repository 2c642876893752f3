"""Entity kinds: the one declaration that validation, merge, rendering and documents follow.

A third kind of entity, or one more metric, is one edit here.
"""

import re
from dataclasses import dataclass
from typing import Literal

MAX_METRIC_VALUE = 2**63
"""Largest value of a metric: what a signed 64-bit counter of an agent can hold, rounded up."""

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ID = re.compile(ID_PATTERN)
_REFUSED = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Control characters, and the separators at which line-based readers split: all of those at which
Python's str.splitlines does are among them."""
TEXT_PATTERN = rf"^[^{_REFUSED}]*$"
"""What is_text says of characters, for documents; JSON has no surrogates by themselves."""
_CHARACTER = re.compile(rf"[{_REFUSED}\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands for a refused character in a name that was registered when it was not refused yet."""


def is_id(text: str) -> bool:
    """Tell whether `text` is a well-formed entity id."""
    return _ID.fullmatch(text) is not None


def is_text(text: str) -> bool:
    """Tell whether `text` may be a name or label value."""
    return text_fault(text) is None


def text_fault(text: str) -> str | None:
    """Say what is wrong with a name or label value, as the rest of a sentence."""
    if not 1 <= len(text) <= 255:
        return "must have 1 to 255 characters"
    return character_fault(text)


def character_fault(text: str) -> str | None:
    """The same for a text of any length; half a surrogate pair is refused, too."""
    found = _CHARACTER.search(text)
    if found is None:
        return None
    return (
        f"must not contain U+{ord(found[0]):04X}: remove it "
        "(control characters and line separators are refused)"
    )


def replace_refused(text: str) -> str:
    """Put REPLACEMENT in the place of each character that `character_fault` would name."""
    return _CHARACTER.sub(REPLACEMENT, text)


Semantic = Literal["gauge", "counter", "uptime"]
FleetAggregate = Literal["sum", "average", "max"]
"""What /metrics/fleet shows of a gauge, of all entities of a group that are online."""

OTHER_GROUP = "other"
"""Value of every label of the group that takes what is beyond a kind's `max_groups`."""

BYTES_PER_SECOND = 12.5e9
"""100 Gbit/s: more than any client's or headend's link carries."""
PACKETS_PER_SECOND = 150e6
"""What 100 Gbit/s carries of the smallest packets."""


@dataclass(frozen=True)
class Metric:
    """One gauge that an entity reports: `field` in a submission, `name` on /metrics.

    All are gauges to Prometheus. `semantic` says how the agent means it: a counter grows, at most
    by `max_value` a second, and starts at 0 with the agent; an uptime, in seconds, says when that
    was; of a gauge, `max_value` is the largest value that can be true. `fleet` is what
    /metrics/fleet shows of a gauge; of a counter it shows the total of what all entities counted.
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

    `registered`: the registry has a value for it. `submitted`: the agent may send one, under the
    name `field`; the last one sent wins over the registered value and over `default`.
    """

    name: str
    registered: bool = False
    submitted: Literal["boolean", "text"] | None = None
    field: str = ""
    default: str = ""


@dataclass(frozen=True)
class EntityKind:
    """Everything that differs between one kind of entity and another."""

    name: str
    collection: str
    """Path segment of the kind's endpoints: /api/v1/<collection>/…"""
    id_label: str
    labels: tuple[Label, ...]
    metrics: tuple[Metric, ...]
    last_check_in: Metric
    credential: Literal["api_key", "jwt"]
    group_labels: tuple[str, ...]
    """Labels of few values, by which /metrics/fleet adds entities up."""
    max_groups: int
    """Groups that /metrics/fleet shows; further ones are in the group OTHER_GROUP."""
    types: tuple[str, ...] = ()
    """Values that the registry accepts for the label `type`; empty where there is no such label."""

    @property
    def label_names(self) -> tuple[str, ...]:
        return (self.id_label, *(label.name for label in self.labels))

    @property
    def counters(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.semantic == "counter")

    @property
    def families(self) -> tuple[Metric, ...]:
        """Metrics in the order in which /metrics shows them."""
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
"""Longer type names that the product's own clients send."""
