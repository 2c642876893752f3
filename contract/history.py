"""Histories of a source partition: which records its offsets have named.

Kafka may lose the end of a log (a power cut), or the topic may be deleted and recreated. Its
offsets are then used a second time. Rows and ledgers therefore count logical offsets, which only
grow: logical = Kafka's offset + the shift of the history that the record belongs to. An
installation to which none of this has happened has one history, with shift 0.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

MAX_HISTORIES = 8
"""Histories that a ledger keeps. Receipts of older ones are older than most retention."""


class SourceMark(msgspec.Struct, frozen=True, gc=False):
    """Identifies one record of the submissions topic.

    `offset` is Kafka's own; `epoch` the leader epoch of its batch; `appended` its append time in
    milliseconds; `topic` the topic's id, as hex digits.
    """

    offset: int
    epoch: int
    appended: int
    topic: str


class History(msgspec.Struct, frozen=True, gc=False):
    """One history: from logical offset `first` on, logical = Kafka's offset + `shift`.

    `appended` is the append time of its first record in milliseconds, None until that was read.
    """

    first: int
    shift: int
    epoch: int
    topic: str
    appended: int | None = None

    @property
    def start(self) -> int:
        """Kafka's offset of its first record."""
        return self.first - self.shift


FIRST = History(first=0, shift=0, epoch=-1, topic="")
"""The history that every partition begins with. It is not written down."""


class Place(NamedTuple):
    """A logical offset, and whether the ledger of that history came to cover it."""

    logical: int
    covered: bool


def place_in_log(later: Sequence[History], offset: int) -> int:
    """Logical offset of a record that the log holds at `offset`.

    `later` are the histories after the first, in order.
    """
    for history in reversed(later):
        if history.start <= offset:
            return offset + history.shift
    return offset


def places(later: Sequence[History], offset: int) -> list[Place]:
    """Every record that `offset` can have named before the newest history began.

    The last element is what it names in the newest history, not covered as far as this tells.
    """
    histories = [FIRST, *later]
    found = [
        Place(offset + each.shift, offset + each.shift < following.first)
        for each, following in itertools.pairwise(histories)
        if each.start <= offset
    ]
    if histories[-1].start <= offset:
        found.append(Place(offset + histories[-1].shift, False))
    return found


def is_reused(later: Sequence[History], offset: int) -> bool:
    """Tell whether `offset` may have named two records."""
    return any(history.start <= offset for history in later)


def history_at(later: Sequence[History], appended: int) -> History | None:
    """The history that was written at a time (ms); None where the newest has no record yet."""
    for history in reversed(later):
        if history.appended is None:
            return None
        if history.appended <= appended:
            return history
    return FIRST
