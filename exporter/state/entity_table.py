"""The table of all entities of one kind, with their rendered samples."""

import time
from array import array
from collections import deque
from collections.abc import Iterator
from typing import cast

from contract.kinds import EntityKind, is_id
from contract.position import Position
from contract.row import RowError
from exporter.state.columns import ANOMALOUS, MAX_PENDING, REGISTERED, Columns
from exporter.state.outcome import RowVersion
from exporter.state.row_decoder import RowDecoder
from exporter.state.text_format import NO_SERIES, EntityRenderer, FamilyAssembler, missing_series

SLOT_REST = 60.0
"""Seconds before a slot is used again, longer than any list of the check-in page is in use."""
NO_ROW = -(2**63)
"""Offset of a slot whose entity is registered and has no row."""

ENTITIES_PER_STEP = 512
"""Entities to assemble at a time: few enough for their rendered samples to stay in the CPU cache
while each family is assembled from them."""


class EntityTable:
    """One slot per known entity: the version of its row, its rendered samples, and its columns.

    An entity is known if it has a row or is registered. A removed entity keeps its row until its
    tombstone arrives.

    During the initial read most rows are replaced by newer ones, and rendering costs more than
    everything else. So a table can store encoded rows at first; `render_deferred` then renders the
    remaining ones.
    """

    def __init__(self, kind: EntityKind, *, defer_rendering: bool = False) -> None:
        self._assembler = FamilyAssembler(kind)
        self._decoder = RowDecoder(kind)
        self._renderer = EntityRenderer(kind)

        self._slots: dict[bytes, int] = {}
        self._free: deque[tuple[float, int]] = deque()
        self._offsets = array("q")
        self._indexes = array("q")
        self._incarnations = array("q")
        self._label_hashes = array("q")
        """Hash of the encoded labels of each slot that shows a row: comparing 64 bits of SipHash
        with a random key costs less than to decode and render the labels again."""
        self._defer_rendering = defer_rendering
        self._rendered: list[str | bytes] = []
        self._missing = array("B")
        self._missing_total = 0
        self._shown_count = 0
        self.columns = Columns(kind)
        self._pending = self.columns.pending

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
        offset, index, incarnation = row.offset, row.index, row.incarnation
        label_hash = hash(bytes(row.labels))
        slot = self._slots.get(key)
        before: str | bytes = NO_SERIES
        if slot is not None and (current := self._offsets[slot]) != NO_ROW:
            if offset < current or (offset == current and index < self._indexes[slot]):
                return False
            if incarnation != self._incarnations[slot]:
                if incarnation < self._incarnations[slot]:
                    return False
                self.columns.clear_row(slot)
            before = self._rendered[slot]
        has_new_labels = (
            slot is None
            or label_hash != self._label_hashes[slot]
            or not before
            or row.removed
            or (isinstance(before, bytes) and not self._defer_rendering)
        )
        if has_new_labels:
            labels = self._decoder.labels(row)
            first_line = self._renderer.labels(_decode_id(id), labels)
        elif isinstance(before, str):
            first_line = before[: before.index("\n") + 1]

        # Nothing below raises an error.
        if slot is None:
            slot = self._new_slot(key)
        self._offsets[slot] = offset
        self._indexes[slot] = index
        self._incarnations[slot] = incarnation
        if row.removed:
            self._set_rendered(slot, NO_SERIES)
            self.columns.clear_row(slot)
            return True
        if has_new_labels:
            self._label_hashes[slot] = label_hash
            self.columns.show_labels(slot, labels)
        if self._defer_rendering:
            self._set_rendered(slot, value)
        else:
            self._set_rendered(slot, first_line + self._renderer.values(row))
        self._pending.append((slot, row))
        if len(self._pending) >= MAX_PENDING:
            self.columns.take_over()
        return True

    def apply_tombstone(self, key: bytes, removed_at: Position | None) -> bool:
        """Remove an entity unless its row is newer; return whether it was removed."""
        slot = self._slots.get(key)
        if slot is None or self._offsets[slot] == NO_ROW:
            return False
        current = (self._offsets[slot], self._indexes[slot])
        if removed_at is not None and removed_at < current:
            return False
        self._set_rendered(slot, NO_SERIES)
        self._offsets[slot] = NO_ROW
        self._incarnations[slot] = self._indexes[slot] = 0
        self.columns.clear_row(slot)
        self._free_unused(key, slot)
        return True

    def register(self, key: bytes, name: str, labels: dict[str, str]) -> None:
        """Note that an entity is registered."""
        slot = self._slots.get(key)
        self.columns.register(self._new_slot(key) if slot is None else slot, name, labels)

    def unregister(self, key: bytes) -> None:
        """Note that an entity is not registered."""
        slot = self._slots.get(key)
        if slot is not None:
            self.columns.unregister(slot)
            self._free_unused(key, slot)

    def expire(self, key: bytes, last_check_in: float) -> None:
        """Keep the last check-in of an entity whose row expires; has no effect on an unknown one.

        `last_check_in` is in seconds since the epoch.
        """
        slot = self._slots.get(key)
        if slot is not None:
            self.columns.expire(slot, last_check_in)

    def mark_anomalous(self, key: bytes, is_anomalous: bool) -> None:
        """Note whether an entity had an anomaly of late; has no effect on an unknown one."""
        slot = self._slots.get(key)
        if slot is not None:
            flags = self.columns.flags
            flags[slot] = flags[slot] | ANOMALOUS if is_anomalous else flags[slot] & ~ANOMALOUS

    def slot(self, key: bytes) -> int | None:
        """Return the slot of an entity that is registered or has a row."""
        return self._slots.get(key)

    def rendered(self, key: bytes) -> str:
        """Return an entity's rendered samples; empty if it has no series or is not rendered yet."""
        slot = self._slots.get(key)
        rendered = NO_SERIES if slot is None else self._rendered[slot]
        return rendered if isinstance(rendered, str) else NO_SERIES

    def rates(self, key: bytes) -> dict[str, float]:
        """Return how much each counter of an entity grew per second since its previous report."""
        slot = self._slots.get(key)
        return {} if slot is None else self.columns.rates(slot)

    def find(self, key: bytes) -> RowVersion | None:
        """Return the version of an entity's row, None if the entity is unknown."""
        slot = self._slots.get(key)
        if slot is None or self._offsets[slot] == NO_ROW:
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
                decoded, id = self._decoder.decode(row), _decode_id(key.partition(b":")[2])
                first_line = self._renderer.labels(id, self._decoder.labels(decoded))
                self._set_rendered(slot, first_line + self._renderer.values(decoded))
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
        if (not rendered) is not (not self._rendered[slot]):
            self._shown_count += 1 if rendered else -1
        self._rendered[slot] = rendered

    def _new_slot(self, key: bytes) -> int:
        if self._free and self._free[0][0] <= time.monotonic():
            slot = self._free.popleft()[1]
            self.columns.use_slot(slot, key)
        else:
            slot = len(self._rendered)
            self._offsets.append(NO_ROW)
            self._indexes.append(0)
            self._incarnations.append(0)
            self._label_hashes.append(0)
            self._rendered.append(NO_SERIES)
            self._missing.append(0)
            self.columns.add_slot(key)
        self._slots[key] = slot
        return slot

    def _free_unused(self, key: bytes, slot: int) -> None:
        """Free the slot of an entity that is not registered and has no row."""
        if self._offsets[slot] == NO_ROW and not self.columns.flags[slot] & REGISTERED:
            del self._slots[key]
            self.columns.free_slot(slot)
            self._free.append((time.monotonic() + SLOT_REST, slot))


def _decode_id(id: bytes) -> str:
    """Decode an entity's id.

    Raises:
        RowError: the id is invalid.
    """
    text = id.decode("utf-8", "replace")
    if not is_id(text):
        raise RowError(f"invalid entity id: {id!r}")
    return text
