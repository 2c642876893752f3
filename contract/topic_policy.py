"""Checks topic settings against those that the delivery guarantees require. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from contract.topics import Topic

IN_SYNC = "min.insync.replicas"
UNCLEAN = "unclean.leader.election.enable"

_EXACT = ("message.timestamp.type",)
_AT_LEAST = (
    *("retention.ms", "retention.bytes", "delete.retention.ms"),
    *("min.compaction.lag.ms", "max.message.bytes"),
)
_UNLIMITED = -1


class Deviation(NamedTuple):
    """A topic setting that violates a requirement."""

    topic: str
    setting: str
    found: str
    wanted: str
    why: str

    def text(self) -> str:
        """Describe the deviation and the command that repairs it."""
        return (
            f"topic {self.topic} has {self.setting}={self.found} but requires {self.wanted}: "
            f"{self.why}. Repair it: tobogganing topics repair"
        )


_WHY = {
    "message.timestamp.type": "deadlines are compared with broker append times",
    "cleanup.policy": "required records would be deleted",
    "retention.ms": "records would be deleted too early",
    "retention.bytes": "records would be deleted too early",
    "delete.retention.ms": "readers could miss a removal",
    "min.compaction.lag.ms": "readers could miss a record",
    "max.message.bytes": "brokers would reject batches",
    IN_SYNC: "acknowledged records could be lost with one broker",
    UNCLEAN: "a broker that lacks acknowledged records could become the leader",
}


def deviations(
    topic: Topic, found: Mapping[str, str], replicas: int, in_sync: int
) -> Iterator[Deviation]:
    """Yield the settings of a topic that violate its requirements; longer retention is allowed.

    `replicas` is the smallest number of replicas of its partitions. `in_sync` is the number of
    replicas that must have a record before it is acknowledged.
    """

    def deviation(setting: str, wanted: str, why: str | None = None) -> Deviation:
        return Deviation(topic.name, setting, found[setting], wanted, why or _WHY[setting])

    for setting, wanted in topic.settings.items():
        if setting in found and not _fits(setting, found[setting], wanted):
            yield deviation(setting, wanted)
    if IN_SYNC in found:
        if int(found[IN_SYNC]) < in_sync:
            yield deviation(IN_SYNC, str(in_sync))
        elif int(found[IN_SYNC]) > replicas:
            why = f"{replicas} replica{'s' * (replicas > 1)} cannot accept writes with it"
            yield deviation(IN_SYNC, str(in_sync), why)
    if found.get(UNCLEAN) == "true" and replicas > 1:
        yield deviation(UNCLEAN, "false")


def _fits(setting: str, found: str, wanted: str) -> bool:
    if setting in _EXACT:
        return found == wanted
    if setting in _AT_LEAST:
        return _limit(found) >= _limit(wanted)
    return setting != "cleanup.policy" or _keeps(found, wanted)


def _limit(value: str) -> float:
    number = int(value)
    return float("inf") if number == _UNLIMITED else number


def _keeps(found: str, wanted: str) -> bool:
    """Return whether a cleanup policy keeps at least the records that the wanted one keeps."""
    policies, allowed = _policies(found), _policies(wanted)
    return policies == allowed or ("delete" in allowed and policies <= allowed)


def _policies(value: str) -> set[str]:
    return {policy.strip() for policy in value.split(",")} - {""}
