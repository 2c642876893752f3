"""Topics: names, settings, consumer group."""

import re
from dataclasses import dataclass

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class Topic:
    """The required state of a topic. `settings` are Kafka topic settings."""

    name: str
    partitions: int
    settings: dict[str, str]


@dataclass(frozen=True)
class Topics:
    """All topics of an installation."""

    submissions: Topic
    entity_state: Topic
    registry: Topic
    dead_letter: Topic
    anomalies: Topic
    audit: Topic
    evidence: Topic

    def all(self) -> tuple[Topic, ...]:
        return (
            self.submissions,
            self.entity_state,
            self.registry,
            self.dead_letter,
            self.anomalies,
            self.audit,
            self.evidence,
        )


SUBMISSIONS_RETENTION_HOURS = 72
"""Default retention of submissions. Workers continue after their ledgers, so it is the longest
outage of all processors without a loss: more than a weekend."""
SUBMISSIONS_RETENTION_MARGIN_HOURS = 24
"""How much longer than entities submissions must be kept: what expires is then recorded first."""
TOMBSTONE_RETENTION_MS = DAY_MS
"""How long a reader that was offline can still see a removal."""
BATCH_BYTES = 1_048_588
"""Kafka's default, above the largest batch that a service sends (1 MiB)."""

LONGEST_NAME = 249
"""Maximum length of a topic name in characters (org.apache.kafka.common.internals.Topic)."""
_CHARACTERS = re.compile(r"[a-zA-Z0-9._-]*")

NOT_FLUSHED = {"flush.messages": str(2**63 - 1)}
"""For topics derived from `submissions`: the operating system decides when to write to disk, even
on a broker that flushes every append. After a power cut, workers resume from an older ledger and
write the lost records again."""

COMPACTED_AND_DELETED = {"cleanup.policy": "compact,delete"}

SEGMENT_BYTES = 8 << 20
"""Kafka compacts only closed segments, and a starting reader reads everything that is not
compacted. A segment of Kafka's default size, 1 GiB, holds 2,700,000 rows, even of a few entities;
one of this size holds 22,000."""


def declare_topics(
    prefix: str,
    partitions: int,
    submissions_retention_hours: float = SUBMISSIONS_RETENTION_HOURS,
) -> Topics:
    """Declare the topics with `prefix`; entities are distributed over `partitions` partitions.

    Timestamps are append times, because the brokers' clock is the only one that all services
    compare. The number of partitions of an installation cannot change: positions of different
    partitions are not comparable.
    """

    def topic(name: str, partitions: int, settings: dict[str, str]) -> Topic:
        everywhere = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(BATCH_BYTES),
        }
        return Topic(prefix + name, partitions, everywhere | settings)

    def kept(ms: int) -> dict[str, str]:
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(ms),
            "retention.bytes": "-1",
        }

    def compacted(lag_ms: int) -> dict[str, str]:
        return {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(lag_ms),
            "delete.retention.ms": str(TOMBSTONE_RETENTION_MS),
            "segment.bytes": str(SEGMENT_BYTES),
        }

    return Topics(
        submissions=topic(
            "submissions", partitions, kept(round(submissions_retention_hours * HOUR_MS))
        ),
        entity_state=topic("entity-state", partitions, compacted(lag_ms=60_000) | NOT_FLUSHED),
        registry=topic("registry", 1, compacted(lag_ms=3_600_000)),
        dead_letter=topic("dead-letter", partitions, kept(7 * DAY_MS)),
        anomalies=topic("anomalies", partitions, kept(7 * DAY_MS) | NOT_FLUSHED),
        audit=topic("audit", 1, kept(90 * DAY_MS)),
        evidence=topic(
            "evidence",
            partitions,
            compacted(lag_ms=0) | kept(7 * DAY_MS) | COMPACTED_AND_DELETED | NOT_FLUSHED,
        ),
    )


def check_prefix(prefix: str) -> None:
    """Check a topic name prefix against Kafka's rules for topic names.

    Raises:
        ValueError: a topic name would be invalid; the message says why.
    """
    if not _CHARACTERS.fullmatch(prefix):
        raise ValueError("Kafka topic names may only contain letters, digits, '.', '_' and '-'")
    longest = max(len(topic.name) for topic in declare_topics("", 1).all())
    if len(prefix) + longest > LONGEST_NAME:
        raise ValueError(
            f"it has {len(prefix)} characters: {LONGEST_NAME - longest} at most, since Kafka's "
            f"topic names have {LONGEST_NAME}"
        )


def processor_group(prefix: str) -> str:
    """The consumer group of an installation's processors."""
    return f"{prefix}processor"
