"""Polls: the records of a partition that one poll returned are one Faust event.

An event costs Faust 100 us regardless of its size: queues, callbacks, acknowledgements.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord

POLL_BYTES = 256 * 1024
"""Maximum size of an event in bytes, which limits the queue of events; one record may exceed it."""


class Poll(bytes):
    """The value of an event that represents consecutive records of a partition.

    It is a `bytes`, because Faust passes only such values on unchanged.
    """

    records: Sequence[ConsumerRecord]
    size: int
    """Size of the records' values in bytes."""

    @classmethod
    def of(cls, records: Sequence[ConsumerRecord]) -> "Poll":
        poll = cls()
        poll.records = records
        poll.size = sum(len(record.value or b"") for record in records)
        return poll


def merge_records(
    found: Mapping[Any, Sequence[ConsumerRecord]], topic: str
) -> dict[Any, Sequence[ConsumerRecord]]:
    """Merge the records of a topic's partitions; those of other topics stay unchanged."""
    return {
        tp: [*_merged(records)] if tp.topic == topic else records for tp, records in found.items()
    }


def _merged(records: Sequence[ConsumerRecord]) -> Iterator[ConsumerRecord]:
    """Yield one record per POLL_BYTES of records, with the last offset and the oldest
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
