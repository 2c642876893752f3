"""Sheets: the cards of all entities of one kind."""

from array import array
from collections.abc import Iterator
from typing import cast

from contract.kinds import EntityKind, is_id
from contract.position import Position
from contract.row import RowError
from exporter.fates import Held
from exporter.lines import NO_SERIES, CardWriter, LineMaker, gaps_of
from exporter.rows import RowReader

STEP = 512
"""Entities whose lines are made at a time: so few that their cards stay in the processor's cache
while each family takes its part of them."""


class Sheet:
    """One slot per entity that is known: how new it is, and its card.

    An entity that was removed keeps its slot until its tombstone comes.

    While the topic is read from its beginning most rows are followed by a newer one of the same
    entity, and a card takes longer to write than all the rest. So a sheet may begin with rows in
    the place of cards; `write_cards` writes those of the rows that are left.
    """

    def __init__(self, kind: EntityKind, *, cards_later: bool = False) -> None:
        self._lines = LineMaker(kind)
        self._read = RowReader(kind).read
        self._write = CardWriter(kind).card

        self._slots: dict[bytes, int] = {}
        self._free: list[int] = []
        self._offsets = array("q")
        self._indexes = array("q")
        self._generations = array("q")
        self._cards_later = cards_later
        self._cards: list[str | bytes] = []
        self._gaps = array("B")
        self._all_gaps = 0
        self._shown = 0

    def __len__(self) -> int:
        """Number of entities with series."""
        return self._shown

    @property
    def series(self) -> int:
        """Number of lines that a snapshot of this moment makes."""
        return len(self) * len(self._lines.headers) - self._all_gaps

    def apply_row(self, key: bytes, id: bytes, value: bytes) -> bool:
        """Take a row, unless what is held is newer; tell whether it was taken.

        Raises:
            RowError: it cannot be read; nothing has changed.
        """
        row = self._read(value)
        text = _text(id)
        offset, index, generation = row.offset, row.index, row.generation
        slot = self._slots.get(key)
        if slot is not None:
            held = self._offsets[slot]
            if offset < held or (offset == held and index < self._indexes[slot]):
                return False
            if generation < self._generations[slot]:
                return False
        card: str | bytes = NO_SERIES
        if not row.removed:
            card = value if self._cards_later else self._write(text, row)
        if slot is None:
            slot = self._new_slot(key)
        self._offsets[slot] = offset
        self._indexes[slot] = index
        self._generations[slot] = generation
        self._show(slot, card)
        return True

    def apply_tombstone(self, key: bytes, removed_at: Position | None) -> bool:
        """Forget an entity, unless what is held is newer; tell whether it was forgotten."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        held = (self._offsets[slot], self._indexes[slot])
        if removed_at is not None and removed_at < held:
            return False
        del self._slots[key]
        self._show(slot, NO_SERIES)
        self._free.append(slot)
        return True

    def find(self, key: bytes) -> Held | None:
        """What is known of a row."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        return Held(
            Position(self._offsets[slot], self._indexes[slot]),
            self._generations[slot],
            self._cards[slot] == NO_SERIES,
        )

    def write_cards(self) -> Iterator[None]:
        """Write, in steps, the cards that were left for later; new rows are written at once again.

        Rows may be applied between two steps.
        """
        self._cards_later = False
        for number, key in enumerate(list(self._slots)):
            slot = self._slots.get(key)
            row = NO_SERIES if slot is None else self._cards[slot]
            if slot is not None and isinstance(row, bytes):
                id = _text(key.partition(b":")[2])
                self._show(slot, self._write(id, self._read(row)))
            if number % STEP == 0:
                yield

    def snapshot(self) -> Iterator[list[bytes]]:
        """All families with all their lines as of this moment: in steps, a piece of each family.

        What is applied later changes nothing of it, so the steps may be taken in a thread. No card
        may be left to be written.
        """
        return self._steps(cast("list[str]", list(filter(None, self._cards))))

    def _steps(self, shown: list[str]) -> Iterator[list[bytes]]:
        yield self._lines.headers
        shown.reverse()
        while shown:
            cards = shown[-STEP:]
            del shown[-STEP:]  # what has changed since is not kept for longer than it is needed
            yield self._lines.lines(cards)
        yield [b"\n"] * len(self._lines.headers)

    def _show(self, slot: int, card: str | bytes) -> None:
        gaps = gaps_of(card) if isinstance(card, str) else 0
        if gaps != self._gaps[slot]:
            self._all_gaps += gaps - self._gaps[slot]
            self._gaps[slot] = gaps
        self._shown += (card != NO_SERIES) - (self._cards[slot] != NO_SERIES)
        self._cards[slot] = card

    def _new_slot(self, key: bytes) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._cards)
            for numbers in (self._offsets, self._indexes, self._generations):
                numbers.append(0)
            self._cards.append(NO_SERIES)
            self._gaps.append(0)
        self._slots[key] = slot
        return slot


def _text(id: bytes) -> str:
    """
    Raises:
        RowError: it is not an id.
    """
    text = id.decode("utf-8", "replace")
    if not is_id(text):
        raise RowError(f"not an entity's id: {id!r}")
    return text
