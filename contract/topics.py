"""Topics: names, keys, settings."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Topic:
    """One topic as it must exist. `settings` are Kafka's own topic settings."""

    name: str
    partitions: int
    settings: dict[str, str]


@dataclass(frozen=True)
class Topics:
    """All topics of one installation."""

    submissions: Topic
    entity_state: Topic
    registry: Topic
    dead_letter: Topic
    anomalies: Topic
    audit: Topic

    def all(self) -> tuple[Topic, ...]:
        return (
            self.submissions,
            self.entity_state,
            self.registry,
            self.dead_letter,
            self.anomalies,
            self.audit,
        )


SEGMENT_BYTES = 8 << 20
"""Kafka compacts what is behind the segment that it writes, and whoever starts reads all that it
has not compacted. One of Kafka's own segments, of 1 GiB, holds 2,700,000 rows, of however few
entities; one of these 22,000."""


def declare_topics(prefix: str, partitions: int) -> Topics:
    """Declare the topics under `prefix`, with `partitions` partitions where entities are spread.

    Every topic's timestamps are append times: the brokers' clock is the only one that the parts
    compare. The number of partitions is the installation's for ever, since positions of two
    partitions do not compare.
    """

    def topic(name: str, partitions: int, settings: dict[str, str]) -> Topic:
        return Topic(
            prefix + name, partitions, {"message.timestamp.type": "LogAppendTime"} | settings
        )

    def kept(days: int) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}

    def compacted(lag_ms: int) -> dict[str, str]:
        return {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(lag_ms),
            "segment.bytes": str(SEGMENT_BYTES),
        }

    return Topics(
        submissions=topic("submissions", partitions, kept(days=7)),
        entity_state=topic("entity-state", partitions, compacted(lag_ms=60_000)),
        registry=topic("registry", 1, compacted(lag_ms=3_600_000)),
        dead_letter=topic("dead-letter", partitions, kept(days=7)),
        anomalies=topic("anomalies", partitions, kept(days=7)),
        audit=topic("audit", 1, kept(days=90)),
    )


def processor_group(prefix: str) -> str:
    """The consumer group of an installation's processors."""
    return f"{prefix}processor"
