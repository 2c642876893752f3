"""Polls: the records of a partition that one poll returned travel through Faust as one event.

An event costs Faust 100 us whatever it holds: queues, callbacks, acknowledgements.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord

POLL_BYTES = 256 * 1024
"""Bytes of records in one event, so that a queue of events is bounded; one record may have more."""


class Poll(bytes):
    """Value of an event that stands for consecutive records of a partition.

    It is a `bytes` because Faust hands only such values on as they are.
    """

    records: Sequence[ConsumerRecord]
    size: int
    """Bytes of the records' values."""

    @classmethod
    def of(cls, records: Sequence[ConsumerRecord]) -> "Poll":
        poll = cls()
        poll.records = records
        poll.size = sum(len(record.value or b"") for record in records)
        return poll


def merge_records(
    found: Mapping[Any, Sequence[ConsumerRecord]], topic: str
) -> dict[Any, Sequence[ConsumerRecord]]:
    """Merge the records of a topic's partitions; other topics' stay as they are."""
    return {
        tp: [*_merged(records)] if tp.topic == topic else records for tp, records in found.items()
    }


def _merged(records: Sequence[ConsumerRecord]) -> Iterator[ConsumerRecord]:
    """Yield a record for each POLL_BYTES of records: with the last one's offset, and the oldest
    append time."""
    for part in _parts(records):
        yield dataclasses.replace(
            part[-1],
            timestamp=min(record.timestamp for record in part),
            key=None,
            value=Poll.of(part),
            headers=(),
        )


def _parts(records: Sequence[ConsumerRecord]) -> Iterator[list[ConsumerRecord]]:
    part: list[ConsumerRecord] = []
    size = 0
    for record in records:
        length = len(record.value or b"")
        if part and size + length > POLL_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += length
    if part:
        yield part
