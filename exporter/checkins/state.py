"""States of check-ins. Pure."""

from contract.kinds import CLIENT, HEADEND, KINDS
from contract.registry import CLUSTER
from exporter.thresholds import Thresholds

OFFLINE, LATE, NEVER, ONLINE = range(4)
"""Codes of the states, the worst first."""
STATES = ("offline", "late", "never", "online")
"""Names of the states, by code."""
SILENT = (OFFLINE, LATE)
"""The states that the filter `silent` stands for."""

COLLECTIONS = {"clients": "client", "headends": "headend", "clusters": CLUSTER}
"""Path segment of a kind -> the kind."""


def state_of(age: float | None, thresholds: Thresholds) -> int:
    """Return the state for an age of the last check-in; None means that it has never checked in."""
    if age is None:
        return NEVER
    if age < thresholds.online:
        return ONLINE
    return LATE if age < thresholds.late else OFFLINE


def group_labels(kind: str) -> tuple[str, ...]:
    """Return the labels of few values by which a kind is grouped and filtered."""
    labels = KINDS.get(kind, HEADEND).group_labels  # a cluster is shown as its headends
    return labels if kind == CLIENT.name else (*labels, CLUSTER)
