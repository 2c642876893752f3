"""Histories of a source partition: which records its offsets have identified.

Kafka can lose the end of a log (in a power cut), or the topic can be deleted and recreated. Its
offsets are then used a second time. Rows and ledgers therefore use logical offsets, which only
grow: logical offset = Kafka's offset + the shift of the record's history. Without such a loss there
is one history, with shift 0.
"""

from collections.abc import Sequence

import msgspec

MAX_HISTORIES = 8
"""Maximum number of histories in a ledger; retention has usually deleted records of older ones."""

MAX_EPOCHS = 8
"""Maximum number of leader epochs in a ledger."""

MAX_UNCOUNTED_RANGES = 8
"""Maximum number of separate uncounted ranges in a ledger."""

STOPPED_METADATA = "stopped: "
"""Prefix of a committed offset's metadata if the processor has stopped the partition because it
cannot determine which records are new. The reason follows."""


NOT_A_RECORD = 0
"""Value of `SourceMark.appended` for an offset that has no record."""


class SourceMark(msgspec.Struct, frozen=True, gc=False):
    """Identifies one record of the submissions topic.

    `offset` is Kafka's offset, `epoch` the leader epoch of the batch, `appended` the append time in
    milliseconds, and `topic` the topic's id as hex digits. For a skipped offset, which has no
    record, `epoch` is that of the leader that reported it, and `appended` is NOT_A_RECORD.
    """

    offset: int
    epoch: int
    appended: int
    topic: str


class History(msgspec.Struct, frozen=True, gc=False):
    """One history: from logical offset `first` on, logical offset = Kafka's offset + `shift`.

    `appended` is the oldest append time of its records in milliseconds, None before the first
    record. `newest` is the newest append time of all records counted before it, 0 if unknown.
    """

    first: int
    shift: int
    epoch: int
    topic: str
    appended: int | None = None
    newest: int = 0

    @property
    def start(self) -> int:
        """Kafka's offset of the first record."""
        return self.first - self.shift


class LeaderEpoch(msgspec.Struct, frozen=True, gc=False):
    """The records counted in one leader epoch, from logical offset `first` on.

    A log can lose its end between two epochs before a worker has read it. No history begins then,
    but records acknowledged in the older epoch may have had offsets from `first` on. `shift`,
    `appended` and `newest` have the same meaning as in a history.
    """

    epoch: int
    first: int
    shift: int
    appended: int
    newest: int


class UncountedRange(msgspec.Struct, frozen=True, gc=False):
    """The ledger covers the logical offsets [first, end) without having counted their records.

    `lost` of them were deleted before they were read. If that is not all of them, it is unknown
    which ones: ranges were joined, or rows of some of the records were written and the source lost
    the records before the ledger counted them.
    """

    first: int
    end: int
    lost: int

    @property
    def is_exact(self) -> bool:
        """Whether all of its records were deleted."""
        return self.lost == self.end - self.first


def add_uncounted(
    ranges: Sequence[UncountedRange], added: UncountedRange
) -> tuple[UncountedRange, ...]:
    """Append a range; join it to the last one, or the two oldest if there are too many."""
    kept = [*ranges, added]
    if ranges and ranges[-1].end == added.first:
        last = ranges[-1]
        kept[-2:] = [UncountedRange(last.first, added.end, last.lost + added.lost)]
    if len(kept) > MAX_UNCOUNTED_RANGES:
        one, two, *rest = kept
        kept = [UncountedRange(one.first, two.end, one.lost + two.lost), *rest]
    return tuple(kept)


FIRST = History(first=0, shift=0, epoch=-1, topic="")
"""The first history of every partition. It is not stored."""


def place_in_log(later: Sequence[History], offset: int) -> int:
    """Return the logical offset of the record at Kafka's `offset`.

    `later` are the histories after the first, in order.
    """
    for history in reversed(later):
        if history.start <= offset:
            return offset + history.shift
    return offset


def is_reused(later: Sequence[History], offset: int) -> bool:
    """Return whether `offset` may have identified two records."""
    return any(history.start <= offset for history in later)
