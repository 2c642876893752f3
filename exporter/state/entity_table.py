"""The table of all entities of one kind, with their rendered samples."""

from array import array
from collections.abc import Callable, Iterator
from typing import cast

from contract.kinds import EntityKind, is_id
from contract.position import Position
from contract.row import RowError
from exporter.state.outcome import RowVersion
from exporter.state.row_decoder import RenderRow, RowDecoder
from exporter.state.text_format import NO_SERIES, EntityRenderer, FamilyAssembler, missing_series

OnRow = Callable[[bytes, RenderRow | None], None]
"""Called with an entity's key and its new row, None if the entity no longer has series."""
OnSlot = Callable[[int, RenderRow | None], None]
"""Is told which row a slot shows from now on; None: nothing."""

ENTITIES_PER_STEP = 512
"""Entities to assemble at a time: few enough for their rendered samples to stay in the CPU cache
while each family is assembled from them."""


class EntityTable:
    """One slot per known entity: the version of its row, and its rendered samples.

    A removed entity keeps its slot until its tombstone arrives.

    During the initial read most rows are replaced by newer ones, and rendering costs more than
    everything else. So a table can store encoded rows at first; `render_deferred` then renders the
    remaining ones.
    """

    def __init__(self, kind: EntityKind, *, defer_rendering: bool = False) -> None:
        self._assembler = FamilyAssembler(kind)
        self._decoder = RowDecoder(kind)
        self._renderer = EntityRenderer(kind)

        self._slots: dict[bytes, int] = {}
        self._free: list[int] = []
        self._offsets = array("q")
        self._indexes = array("q")
        self._incarnations = array("q")
        self._defer_rendering = defer_rendering
        self._rendered: list[str | bytes] = []
        self._missing = array("B")
        self._missing_total = 0
        self._shown_count = 0
        self.on_row: OnRow | None = None
        self.on_slot: OnSlot | None = None

    def __len__(self) -> int:
        """Number of entities with series."""
        return self._shown_count

    @property
    def series(self) -> int:
        """Number of samples in a snapshot taken now."""
        return len(self) * len(self._assembler.headers) - self._missing_total

    def apply_row(self, key: bytes, id: bytes, value: bytes) -> bool:
        """Apply a row unless the table has a newer one; return whether it was applied.

        Raises:
            RowError: the row cannot be decoded; the table is unchanged.
        """
        row = self._decoder.decode(value)
        text = _decode_id(id)
        offset, index, incarnation = row.offset, row.index, row.incarnation
        slot = self._slots.get(key)
        if slot is not None:
            current = self._offsets[slot]
            if offset < current or (offset == current and index < self._indexes[slot]):
                return False
            if incarnation < self._incarnations[slot]:
                return False
        rendered: str | bytes = NO_SERIES
        if not row.removed:
            rendered = value if self._defer_rendering else self._renderer.render(text, row)
        if slot is None:
            slot = self._new_slot(key)
        self._offsets[slot] = offset
        self._indexes[slot] = index
        self._incarnations[slot] = incarnation
        self._set_rendered(slot, rendered)
        if self.on_row is not None:
            self.on_row(key, None if row.removed else row)
        if self.on_slot is not None:
            self.on_slot(slot, None if row.removed else row)
        return True

    def apply_tombstone(self, key: bytes, removed_at: Position | None) -> bool:
        """Remove an entity unless its row is newer; return whether it was removed."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        current = (self._offsets[slot], self._indexes[slot])
        if removed_at is not None and removed_at < current:
            return False
        del self._slots[key]
        self._set_rendered(slot, NO_SERIES)
        self._free.append(slot)
        if self.on_row is not None:
            self.on_row(key, None)
        if self.on_slot is not None:
            self.on_slot(slot, None)
        return True

    def rendered(self, key: bytes) -> str:
        """Return an entity's rendered samples; empty if it has no series or is not rendered yet."""
        slot = self._slots.get(key)
        rendered = NO_SERIES if slot is None else self._rendered[slot]
        return rendered if isinstance(rendered, str) else NO_SERIES

    def find(self, key: bytes) -> RowVersion | None:
        """Return the version of an entity's row, None if the entity is unknown."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        return RowVersion(
            Position(self._offsets[slot], self._indexes[slot]),
            self._incarnations[slot],
            self._rendered[slot] == NO_SERIES,
        )

    def render_deferred(self) -> Iterator[None]:
        """Render the deferred rows, in steps; later rows are rendered when they are applied.

        Rows may be applied between two steps.
        """
        self._defer_rendering = False
        for number, key in enumerate(list(self._slots)):
            slot = self._slots.get(key)
            row = NO_SERIES if slot is None else self._rendered[slot]
            if slot is not None and isinstance(row, bytes):
                id = _decode_id(key.partition(b":")[2])
                self._set_rendered(slot, self._renderer.render(id, self._decoder.decode(row)))
            if number % ENTITIES_PER_STEP == 0:
                yield

    def snapshot(self) -> Iterator[list[bytes]]:
        """Return all families as of now: in steps, each with a piece of every family.

        Later changes do not affect it, so a thread may consume the steps. Call it only after
        `render_deferred` has finished.
        """
        return self._steps(cast("list[str]", list(filter(None, self._rendered))))

    def _steps(self, rendered_entities: list[str]) -> Iterator[list[bytes]]:
        yield self._assembler.headers
        rendered_entities.reverse()
        while rendered_entities:
            rendered = rendered_entities[-ENTITIES_PER_STEP:]
            del rendered_entities[-ENTITIES_PER_STEP:]  # frees the text of changed entities
            yield self._assembler.assemble(rendered)
        yield [b"\n"] * len(self._assembler.headers)

    def _set_rendered(self, slot: int, rendered: str | bytes) -> None:
        missing = missing_series(rendered) if isinstance(rendered, str) else 0
        if missing != self._missing[slot]:
            self._missing_total += missing - self._missing[slot]
            self._missing[slot] = missing
        self._shown_count += (rendered != NO_SERIES) - (self._rendered[slot] != NO_SERIES)
        self._rendered[slot] = rendered

    def _new_slot(self, key: bytes) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._rendered)
            for numbers in (self._offsets, self._indexes, self._incarnations):
                numbers.append(0)
            self._rendered.append(NO_SERIES)
            self._missing.append(0)
        self._slots[key] = slot
        return slot


def _decode_id(id: bytes) -> str:
    """Decode an entity's id.

    Raises:
        RowError: the id is invalid.
    """
    text = id.decode("utf-8", "replace")
    if not is_id(text):
        raise RowError(f"invalid entity id: {id!r}")
    return text
