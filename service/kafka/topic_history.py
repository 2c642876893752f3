"""Detects that a topic no longer contains the records that its reader has read.

A topic that lost its tail in a power failure, or was deleted and recreated, assigns the same
offsets to other records. Three checks detect this: the topic ends before the reader's position; the
first record with the highest append time is a different one; or a record before the reader's
position is newer than all records read. Records that compaction has removed are ignored.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

_timestamp = operator.attrgetter("timestamp")


class OutdatedStateError(Exception):
    """The state does not match the topic, which must be read from its beginning."""


class HistoryChangedError(OutdatedStateError):
    """The topic contains other records than those that were read."""


class Marker(NamedTuple):
    """A record, identified by its offset and append time (milliseconds)."""

    offset: int
    timestamp: int


class TopicHistory:
    """The records by which a reader recognises its topic."""

    def __init__(self) -> None:
        self.markers: dict[int, Marker] = {}
        """The first record with the highest append time, by partition."""

    def observe(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Update the marker of a partition with the next records."""
        newest = max(records, key=_timestamp)
        marker = self.markers.get(partition)
        if marker is None or newest.timestamp > marker.timestamp:
            self.markers[partition] = Marker(newest.offset, newest.timestamp)


def find_cut(positions: Mapping[int, int], ends: Mapping[int, int]) -> str | None:
    """Report a partition that ends before the reader's position at the time of the request."""
    for partition, position in positions.items():
        end = ends.get(partition, position)
        if end < position:
            return f"partition {partition} ends at {end}, but was read up to {position}"
    return None


def find_difference(
    markers: Mapping[int, Marker], found: Mapping[int, Marker | None]
) -> str | None:
    """Report a partition whose marker was replaced by another record.

    `found` is the first record of each partition with the marker's append time or a later one.
    """
    for partition, marker in markers.items():
        first = found.get(partition)
        # A later offset, or none, means that compaction has removed the marker.
        if first is not None and first.offset <= marker.offset and first != marker:
            return (
                f"partition {partition} has a record of {first.timestamp} at {first.offset}, but "
                f"a record of {marker.timestamp} at {marker.offset} was read"
            )
    return None


def find_unread(positions: Mapping[int, int], later: Mapping[int, Marker | None]) -> str | None:
    """Report a partition that contains an unread record before the reader's position.

    `later` is the first record of each partition that is newer than its marker, and so newer than
    all records that were read.
    """
    for partition, first in later.items():
        position = positions.get(partition, 0)
        if first is not None and first.offset < position:
            return (
                f"partition {partition} has a record of {first.timestamp} at {first.offset}, but "
                f"was read up to {position} without a record as new as that"
            )
    return None
