"""Polls: records are delivered together, in order, in events of limited size."""

from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from faust.serializers.registry import Registry

from processor.faust_compat.poll import POLL_BYTES, Poll, merge_records

SOURCE, OTHER = TopicPartition("submissions", 1), TopicPartition("entity-state", 1)


def record(tp: TopicPartition, offset: int, size: int = 10, at: int = 1000) -> ConsumerRecord:
    value = b"x" * size
    return ConsumerRecord(tp.topic, tp.partition, offset, at, 1, b"k", value, 3, 1, size, ())


def test_records_of_the_source_become_one_event_per_partition() -> None:
    records = [record(SOURCE, offset, at=2000 - offset) for offset in (4, 5, 9)]
    merged: Any = merge_records({SOURCE: records, OTHER: [record(OTHER, 0)]}, SOURCE.topic)
    [event] = merged[SOURCE]
    assert (event.offset, event.timestamp, event.partition) == (9, 1991, 1)
    assert list(event.value.records) == records
    assert event.value.size == 30
    assert merged[OTHER] == [record(OTHER, 0)]


def test_an_event_is_limited_in_bytes_but_has_at_least_one_record() -> None:
    sizes = [10, POLL_BYTES - 10, 1, POLL_BYTES * 2, 5, 5]
    records = [record(SOURCE, offset, size) for offset, size in enumerate(sizes)]
    events = merge_records({SOURCE: records}, SOURCE.topic)[SOURCE]
    assert [[each.offset for each in event.value.records] for event in events] == [
        [0, 1],
        [2],
        [3],
        [4, 5],
    ]


def test_a_tombstone_has_no_bytes() -> None:
    empty = ConsumerRecord(SOURCE.topic, 1, 0, 0, 1, None, None, 3, 1, -1, ())
    assert Poll.of([empty]).size == 0


def test_faust_passes_a_poll_on_unchanged() -> None:
    poll = Poll.of([record(SOURCE, 0)])
    assert Registry().loads_value(bytes, poll, serializer="raw") is poll
