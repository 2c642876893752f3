"""Searches and sorts the texts of a column: names, and ids.

A column's texts are kept as one text, in which a line feed ends each. To search it takes one pass;
to sort it by vector operations, texts are compared eight bytes at a time, as numbers. UTF-8 sorts
as code points do.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from exporter.state.columns import MAX_CHANGED

Slots = NDArray[np.intp]
_WORD = 8
"""Bytes that are compared at a time."""
_LINE_FEED = 10
_OFFSET = np.uint32
"""Type of an offset: half the memory, and enough for the names of any number of clients that an
exporter can serve."""


class TextColumn:
    """The texts of all slots. All begin with the same `skipped` bytes, which searches and sorting
    ignore.

    A changed text is appended. The old one stays, but is no longer found.
    """

    def __init__(self, skipped: int = 0) -> None:
        self._skipped = skipped
        self._text = bytearray(_WORD)
        """The lines, and as many NULs as a word that begins at the end takes."""
        self._starts = self._ends = np.zeros(0, _OFFSET)
        """By slot: where its text begins, without `skipped`, and ends."""
        self._first_words = np.zeros(0, np.uint64)
        self._line_ends = self._line_slots = np.zeros(0, _OFFSET)

    def __len__(self) -> int:
        """Number of lines, those of earlier texts included."""
        return len(self._line_ends)

    def replace(self, slots: Slots, lines: bytes) -> None:
        """Store a line for each of some slots; slots that are not known yet are added."""
        size = len(self._text) - _WORD
        self._text[size:] = lines + bytes(_WORD)
        is_end = np.frombuffer(lines, np.uint8) == _LINE_FEED
        ends = (np.flatnonzero(is_end) + size).astype(_OFFSET)
        added = max(0, int(slots.max(initial=-1)) + 1 - len(self._starts))
        self._starts = np.append(self._starts, np.zeros(added, _OFFSET))
        self._ends = np.append(self._ends, np.zeros(added, _OFFSET))
        self._first_words = np.append(self._first_words, np.zeros(added, np.uint64))
        self._starts[slots] = np.concatenate([[size], ends[:-1] + 1])[: len(slots)] + self._skipped
        self._ends[slots] = ends
        self._line_ends = np.append(self._line_ends, ends)
        self._line_slots = np.append(self._line_slots, slots.astype(_OFFSET))
        self._first_words[slots] = self._words(slots, 0)

    def text(self, slot: int) -> bytes:
        return bytes(self._text[self._starts[slot] : self._ends[slot]])

    def find(self, wanted: bytes) -> Slots:
        """Return the slots whose text contains another."""
        text, found = self._text, []
        position = text.find(wanted, 0, -_WORD) if wanted else -1
        while position >= 0:
            found.append(position)
            position = text.find(wanted, position + 1, -_WORD)
        lines = np.searchsorted(self._line_ends, np.array(found, _OFFSET))
        slots = self._line_slots[lines].astype(np.intp)
        current: Slots = slots[self._ends[slots] == self._line_ends[lines]]
        return current

    def words(self, slots: Slots, depth: int) -> NDArray[np.uint64]:
        """Return eight bytes of each text from `depth` on, as numbers that sort as the bytes do."""
        return self._words(slots, depth) if depth else self._first_words[slots]

    def _words(self, slots: Slots, depth: int) -> NDArray[np.uint64]:
        starts = self._starts[slots].astype(np.int64) + depth
        lengths = self._ends[slots] - starts
        starts[lengths < 0] = 0
        windows: NDArray[np.uint64] = np.ndarray(
            (len(self._text) - _WORD + 1,), ">u8", self._text, strides=(1,)
        )
        words: NDArray[np.uint64] = windows[starts].astype(np.uint64)
        unused = (8 * (_WORD - np.clip(lengths, 1, _WORD))).astype(np.uint64)
        words = words >> unused << unused
        words[lengths <= 0] = 0
        return words

    def longest(self, slots: Slots) -> int:
        """Return the length of the longest text in bytes."""
        return int((self._ends[slots] - self._starts[slots]).max(initial=0))  # never negative


def first_slots(
    columns: Sequence[TextColumn], slots: Slots, count: int, *, descending: bool = False
) -> list[int]:
    """Return the first `count` of some slots, in the order of their texts in the first column, then
    the second, and so on."""
    chosen: list[NDArray[np.intp]] = []
    wanted = count
    for column in columns:
        depth, longest = 0, column.longest(slots)
        while len(slots) > wanted and depth < longest:
            words = column.words(slots, depth)
            if descending:
                words = ~words
            bound = np.partition(words, wanted - 1)[wanted - 1]
            chosen.append(slots[np.flatnonzero(words < bound)])
            wanted -= len(chosen[-1])
            slots = slots[np.flatnonzero(words == bound)]
            depth += _WORD
    first = np.concatenate([*chosen, slots]).tolist()

    def texts(slot: int) -> tuple[bytes, ...]:
        return tuple(column.text(slot) for column in columns)

    return sorted(first, key=texts, reverse=descending)[:count]


def slots_after(
    columns: Sequence[TextColumn], slots: Slots, texts: Sequence[bytes], *, descending: bool = False
) -> Slots:
    """Return those of some slots that follow given texts, one per column."""
    after: list[NDArray[np.intp]] = []
    for column, text in zip(columns, texts, strict=True):
        for depth in range(0, max(column.longest(slots), len(text)), _WORD):
            words, wanted = column.words(slots, depth), _word(text, depth)
            after.append(slots[words < wanted if descending else words > wanted])
            slots = slots[words == wanted]
    return np.concatenate(after) if after else slots[:0]


def slots_with_prefix(column: TextColumn, slots: Slots, prefix: bytes) -> Slots:
    """Return those of some slots whose text begins with another."""
    for depth in range(0, len(prefix), _WORD):
        unused = np.uint64(8 * max(0, depth + _WORD - len(prefix)))
        slots = slots[column.words(slots, depth) >> unused == _word(prefix, depth) >> unused]
    return slots


def _word(text: bytes, depth: int) -> np.uint64:
    return np.uint64(int.from_bytes(text[depth : depth + _WORD].ljust(_WORD, b"\0"), "big"))


class Texts:
    """Names and ids of one kind for searches and orders, made when they are first needed.

    Names are compared in any case. One thread uses it; another may `note` changes.
    """

    def __init__(self, kind: str) -> None:
        self._skipped = len(kind) + 1
        self._changed: set[int] | None = None
        """Slots to be read again; None: all."""
        self._lock = Lock()
        self.names = TextColumn()
        self.ids = TextColumn()

    def note(self, changed: set[int] | None) -> None:
        """Note the slots whose name or key has changed; None: any may have.

        With more than MAX_CHANGED, all are read again.
        """
        with self._lock:
            if self._changed is None or changed is None:
                self._changed = None
                return
            self._changed |= changed
            if len(self._changed) > MAX_CHANGED:
                self._changed = None

    def update(self, keys: Sequence[bytes | None], names: Sequence[str]) -> None:
        """Read what has changed."""
        with self._lock:
            changed, self._changed = self._changed, set()
        if changed is None or len(self.names) > 2 * len(keys):
            self.names, self.ids = TextColumn(), TextColumn(self._skipped)
            slots = np.arange(min(len(keys), len(names)))
        else:
            slots = np.array(sorted(changed), np.intp)
        if not len(slots):
            return
        indexes = slots.tolist()
        texts = "\n".join([names[i] for i in indexes]).casefold()
        self.names.replace(slots, texts.encode("utf-8", "surrogatepass") + b"\n")
        unused = bytes(self._skipped)
        self.ids.replace(slots, b"\n".join([keys[i] or unused for i in indexes]) + b"\n")


def folded(text: str) -> bytes:
    """Return a name as it is compared."""
    return text.casefold().encode("utf-8", "surrogatepass")
