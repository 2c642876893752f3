"""Topic history: whether a topic still holds the records that its reader has read.

A topic that lost its tail in a power cut, or that was deleted and created again, gives offsets to
other records. Three things show it: the topic ends before the reader's position, the first record
with the highest append time that was read is now another one, or a record before the reader's
position is newer than all that it has read. A record that compaction has removed shows nothing.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

_timestamp = operator.attrgetter("timestamp")


class OutdatedStateError(Exception):
    """What was read is not what the topic says: it must be read from its beginning."""


class HistoryChangedError(OutdatedStateError):
    """The topic holds other records than those that were read."""


class Marker(NamedTuple):
    """A record, by its offset and its append time in milliseconds."""

    offset: int
    timestamp: int


class TopicHistory:
    """What a reader has read, as far as it takes to recognise the topic."""

    def __init__(self) -> None:
        self.markers: dict[int, Marker] = {}
        """Of each partition, the first record with the highest append time."""

    def observe(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Take note of the next records that were read."""
        newest = max(records, key=_timestamp)
        marker = self.markers.get(partition)
        if marker is None or newest.timestamp > marker.timestamp:
            self.markers[partition] = Marker(newest.offset, newest.timestamp)


def find_cut(positions: Mapping[int, int], ends: Mapping[int, int]) -> str | None:
    """Say which partition ends before the position that its reader had when Kafka was asked."""
    for partition, position in positions.items():
        end = ends.get(partition, position)
        if end < position:
            return f"partition {partition} ends at {end}, but was read up to {position}"
    return None


def find_difference(
    markers: Mapping[int, Marker], found: Mapping[int, Marker | None]
) -> str | None:
    """Say which partition has another record in the place of its marker.

    `found` is the first record of each partition whose append time is that of the marker or later.
    """
    for partition, marker in markers.items():
        first = found.get(partition)
        # A later offset, or none, is what is left where compaction has removed the marker.
        if first is not None and first.offset <= marker.offset and first != marker:
            return (
                f"partition {partition} has a record of {first.timestamp} at {first.offset}, but "
                f"that of {marker.timestamp} at {marker.offset} was read"
            )
    return None


def find_unread(positions: Mapping[int, int], later: Mapping[int, Marker | None]) -> str | None:
    """Say which partition has a record before the reader's position that it cannot have read.

    `later` is the first record of each partition that is newer than its marker, which is at least
    as new as all records before the position.
    """
    for partition, first in later.items():
        position = positions.get(partition, 0)
        if first is not None and first.offset < position:
            return (
                f"partition {partition} has a record of {first.timestamp} at {first.offset}, but "
                f"was read up to {position}, and nothing as new was there"
            )
    return None
