"""Histories of a source partition: which records its offsets have named.

Kafka may lose the end of a log (a power cut), or the topic may be deleted and recreated. Its
offsets are then used a second time. Rows and ledgers therefore count logical offsets, which only
grow: logical = Kafka's offset + the shift of the history that the record belongs to. An
installation to which none of this has happened has one history, with shift 0.
"""

from collections.abc import Sequence

import msgspec

MAX_HISTORIES = 8
"""Histories that a ledger keeps. Receipts of older ones are older than most retention."""

MAX_EPOCHS = 8
"""Leader epochs that a ledger keeps."""

MAX_UNCOUNTED_RANGES = 8
"""Ranges of offsets covered without a count that a ledger tells apart."""

STOPPED_METADATA = "stopped: "
"""How the metadata of a committed offset begins if the processor has stopped the partition, since
it is not certain which records are new. The reason follows."""


NOT_A_RECORD = 0
"""Append time in the mark of an offset that was skipped."""


class SourceMark(msgspec.Struct, frozen=True, gc=False):
    """Identifies one record of the submissions topic.

    `offset` is Kafka's own; `epoch` the leader epoch of its batch; `appended` its append time in
    milliseconds; `topic` the topic's id, as hex digits. Of a skipped offset, where no record is,
    `epoch` is that of the leader that said so, and `appended` is NOT_A_RECORD.
    """

    offset: int
    epoch: int
    appended: int
    topic: str


class History(msgspec.Struct, frozen=True, gc=False):
    """One history: from logical offset `first` on, logical = Kafka's offset + `shift`.

    `appended` is the oldest append time of its records in milliseconds, None until one was counted.
    `newest` is the newest append time of all records counted before it; 0 if it is not known.
    """

    first: int
    shift: int
    epoch: int
    topic: str
    appended: int | None = None
    newest: int = 0

    @property
    def start(self) -> int:
        """Kafka's offset of its first record."""
        return self.first - self.shift


class LeaderEpoch(msgspec.Struct, frozen=True, gc=False):
    """The records that were counted in one leader epoch: from logical offset `first` on.

    A log may lose its end between two epochs before a worker has read it. No history begins then,
    but records acknowledged in the older epoch may have had offsets from `first` on. `shift`,
    `appended` and `newest` mean the same as in a history.
    """

    epoch: int
    first: int
    shift: int
    appended: int
    newest: int


class UncountedRange(msgspec.Struct, frozen=True, gc=False):
    """The ledger covers the logical offsets [first, end), and has not counted their records.

    `lost` of them were deleted before they were read. If that is not all, it is not known which
    were: several ranges were joined, or rows were written of some of the records, and their source
    was lost before the ledger counted them.
    """

    first: int
    end: int
    lost: int

    @property
    def is_exact(self) -> bool:
        """Whether each of its records was deleted."""
        return self.lost == self.end - self.first


def add_uncounted(
    ranges: Sequence[UncountedRange], added: UncountedRange
) -> tuple[UncountedRange, ...]:
    """Append a range; join it to the last, or the two oldest if there are too many."""
    kept = [*ranges, added]
    if ranges and ranges[-1].end == added.first:
        last = ranges[-1]
        kept[-2:] = [UncountedRange(last.first, added.end, last.lost + added.lost)]
    if len(kept) > MAX_UNCOUNTED_RANGES:
        one, two, *rest = kept
        kept = [UncountedRange(one.first, two.end, one.lost + two.lost), *rest]
    return tuple(kept)


FIRST = History(first=0, shift=0, epoch=-1, topic="")
"""The history that every partition begins with. It is not written down."""


def place_in_log(later: Sequence[History], offset: int) -> int:
    """Logical offset of a record that the log holds at `offset`.

    `later` are the histories after the first, in order.
    """
    for history in reversed(later):
        if history.start <= offset:
            return offset + history.shift
    return offset


def is_reused(later: Sequence[History], offset: int) -> bool:
    """Tell whether `offset` may have named two records."""
    return any(history.start <= offset for history in later)
