"""Frames for the processor as gateways write them, and what must come of them.

The model is written anew here, and not the processor's own fold: a fold that is fast and wrong
would agree with itself.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import RecordMetadata

from bench.errors import WrongResultError
from contract.frame import Submission, encode_frame, entity_key, partition_of
from contract.kinds import CLIENT
from contract.row import is_ledger_key
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from

NEVER_LATE = 2**53
ON_THE_WAY = 64
"""Most frames that wait for their acknowledgement."""
LEFT_OUT = 16
"""One submission of so many leaves a metric out: merging must keep its value."""

Row = dict[str, Any]


@dataclass
class FrameLoad:
    """Submissions of `entities` clients, each heard of once a round, in frames of `size`."""

    settings: KafkaSettings
    entities: int
    size: int
    submissions: int = 0
    """Submissions that Kafka has."""
    rows: dict[bytes, Row] = field(default_factory=dict)
    """The row that each entity must have."""
    ledgers: dict[int, dict[str, int]] = field(default_factory=dict)
    _round: int = 0
    _rest: dict[int, list[Submission]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.entities)
        self._names = [f"client-{number:07}" for number in range(self.entities)]

    async def write(self, submissions: int) -> None:
        """Append so many submissions to Kafka, as fast as it takes them."""
        topic = topics_from(self.settings).submissions.name
        producer = AIOKafkaProducer(
            **client_options(self.settings), acks="all", enable_idempotence=True
        )
        await producer.start()
        try:
            waiting = []
            for partition, members in self._frames(submissions):
                frame = encode_frame(NEVER_LATE, members)
                waiting.append((members, await producer.send(topic, frame, partition=partition)))
                if len(waiting) == ON_THE_WAY:
                    for sent, future in waiting:
                        self._expect(sent, await future)
                    waiting.clear()
            for sent, future in waiting:
                self._expect(sent, await future)
        finally:
            await producer.stop()

    def _frames(self, submissions: int) -> Iterator[tuple[int, list[Submission]]]:
        """Yield frames with their partitions; the last ones may be smaller."""
        gathered: dict[int, list[Submission]] = {}
        for number in range(submissions):
            turn = number % self.entities
            if turn == 0:
                self._round += 1
                self._chance.shuffle(self._names)
            name = self._names[turn]
            partition = partition_of(entity_key("client", name), self.settings.kafka_partitions)
            members = gathered.setdefault(partition, [])
            members.append(self._submission(name))
            if len(members) == self.size:
                yield partition, gathered.pop(partition)
        yield from gathered.items()

    def _submission(self, name: str) -> Submission:
        total = self._round * 100_000 + self._chance.randrange(100_000)
        metrics: dict[str, int | float] = {
            "bytes_sent": total * 17,
            "bytes_received": total * 31,
            "packets_sent": total,
            "packets_received": total * 2,
            "connection_uptime": 1000.5 + 7 * self._round,
        }
        if self._chance.randrange(LEFT_OUT) == 0:
            del metrics["packets_sent"]
        return Submission(
            kind=CLIENT.name,
            id=name,
            incarnation=1,
            labels={"name": f"{name}.example", "type": "native"},
            default_labels={"headless": "false"},
            metrics=metrics,
        )

    def _expect(self, members: list[Submission], sent: RecordMetadata) -> None:
        """Take note of what a frame that Kafka has must change."""
        self.submissions += len(members)
        ledger = self.ledgers.setdefault(sent.partition, {"offset": -1, "read": 0})
        ledger["offset"] = max(ledger["offset"], sent.offset)
        ledger["read"] += len(members)
        for index, each in enumerate(members):
            key = entity_key(each.kind, each.id)
            held = self.rows.get(key, {})
            self.rows[key] = {
                "version": 1,
                "offset": sent.offset,
                "index": index,
                "generation": each.incarnation,
                "heard_at": sent.timestamp,
                "last_check_in": sent.timestamp / 1000,
                "labels": {"headless": "false"} | each.labels,
                "metrics": held.get("metrics", {}) | each.metrics,
            }

    async def check(self) -> None:
        """Compare the last record of every key of the entity-state topic with the model.

        Raises:
            WrongResultError: something is lost, too much, or other than it must be.
        """
        found: dict[bytes, bytes | None] = {}

        def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                found[record.key] = record.value

        topic = topics_from(self.settings).entity_state.name
        async with TopicReader(
            self.settings, topic, range(self.settings.kafka_partitions)
        ) as reader:
            await reader.read_to_end(collect, {})
        ledgers = {key: found.pop(key) for key in list(found) if is_ledger_key(key)}
        self._check_ledgers(ledgers)
        wrong = [
            key
            for key in found.keys() | self.rows.keys()
            if _decoded(found.get(key)) != self.rows.get(key)
        ]
        if wrong:
            key = wrong[0]
            raise WrongResultError(
                f"{len(wrong)} of {len(self.rows)} rows are wrong, e.g. {key!r}: "
                f"expected {self.rows.get(key)}, found {found.get(key)!r}"
            )

    def _check_ledgers(self, found: dict[bytes, bytes | None]) -> None:
        nothing = {"stale": 0, "late": 0, "dead_lettered": 0, "lost": 0}
        for partition, ledger in self.ledgers.items():
            expected = {"version": 1, **ledger, "applied": ledger["read"], **nothing}
            row = _decoded(found.get(b"ledger:%d" % partition))
            if row != expected:
                raise WrongResultError(
                    f"ledger of partition {partition}: expected {expected}, found {row}"
                )


def _decoded(value: bytes | None) -> Row | None:
    return None if value is None else msgspec.json.decode(value)
