"""The newer of two records counts, and the scrape exports only the rows that count."""

from collections import deque
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import KINDS
from contract.ledger import LedgerRow, ledger_key
from contract.position import Position
from contract.row import ROW_VERSION, EntityRow, RowError, encode_position, encode_row
from exporter.scrape.exposition import render_exposition
from exporter.state.entity_table import ENTITIES_PER_STEP
from exporter.state.store import StateStore
from tests.unit.exporter.model import exposition, in_order, make_row, rendered

KEY = b"client:c-1"


def shown(store: StateStore) -> str:
    """Return the sample lines of a scrape."""
    lines = exposition(store).decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def put(store: StateStore, key: bytes = KEY, **values: Any) -> bool:
    return store.apply(0, key, encode_row(make_row(**values)))


@pytest.fixture
def store() -> StateStore:
    return StateStore([0, 1])


def test_an_empty_store_exports_only_the_families(store: StateStore) -> None:
    text, openmetrics = rendered({})
    assert exposition(store) == text
    assert exposition(store) + b"# EOF\n" == openmetrics


def test_a_lower_position_is_ignored_and_an_equal_one_replaces(store: StateStore) -> None:
    assert put(store, offset=7, index=3, metrics={"bytes_sent": 1})
    assert not put(store, offset=7, index=2, metrics={"bytes_sent": 2})
    assert not put(store, offset=6, index=9, metrics={"bytes_sent": 3})
    assert " 1\n" in shown(store)
    assert put(store, offset=7, index=3, metrics={"bytes_sent": 4})
    assert " 4\n" in shown(store)
    assert " 1\n" not in shown(store)


def test_an_older_incarnation_never_replaces_a_newer_one(store: StateStore) -> None:
    put(store, offset=7, incarnation=5)
    assert not put(store, offset=8, incarnation=4)
    assert put(store, offset=8, incarnation=6)


def test_a_label_change_leaves_no_old_series(store: StateStore) -> None:
    put(store, offset=1, labels={"name": "old"}, metrics={"bytes_sent": 1})
    put(store, offset=2, labels={"name": "new"}, metrics={"bytes_sent": 1})
    assert 'name="old"' not in shown(store)
    assert shown(store).count('name="new"') == 2


def test_a_removed_row_has_no_series_but_stays_known(store: StateStore) -> None:
    put(store, offset=5, incarnation=3)
    assert put(store, offset=6, incarnation=3, removed=True)
    assert shown(store) == ""
    assert store.entities("client") == 0
    assert not put(store, offset=5, incarnation=3), "an older row must not recreate it"
    assert put(store, offset=9, incarnation=4), "a new registration must"
    assert store.entities("client") == 1


def test_a_slot_is_reused(store: StateStore) -> None:
    put(store, b"client:a", offset=1)
    put(store, b"client:b", offset=1)
    store.apply(0, b"client:a", None)
    put(store, b"client:c", offset=1)
    assert store.entities("client") == 2
    assert 'client_id="a"' not in shown(store)
    assert shown(store).count('client_id="b"') == shown(store).count('client_id="c"') == 1


def test_a_tombstone_removes_only_older_rows(store: StateStore) -> None:
    put(store, offset=5, index=1)
    assert not store.apply(0, KEY, None, encode_position(Position(5, 0)))
    assert store.entities("client") == 1
    assert store.apply(0, KEY, None, encode_position(Position(5, 1)))
    assert shown(store) == ""
    assert not store.apply(0, KEY, None, encode_position(Position(5, 1)))


def test_a_tombstone_without_a_position_removes_any_row(store: StateStore) -> None:
    put(store, offset=5)
    assert store.apply(0, KEY, None)
    assert store.entities("client") == 0


def test_the_ledger_never_goes_back(store: StateStore) -> None:
    def row(offset: int, read: int) -> bytes:
        return encode_row(LedgerRow(ROW_VERSION, offset, read=read, applied=read))

    assert store.apply(1, ledger_key(1), row(10, 5))
    assert not store.apply(1, ledger_key(1), row(9, 4))
    assert store.ledgers[1].read == 5
    assert store.apply(1, ledger_key(1), row(10, 6))
    assert store.ledgers[1].read == 6
    assert store.ledgers[0].read == 0


NEWER_VERSION = make_row(version=ROW_VERSION + 8)
ROW = encode_row(make_row(offset=9))


@pytest.mark.parametrize(
    ("key", "value", "position"),
    [
        (None, ROW, None),
        (b"", ROW, None),
        (b"gadget:g-1", ROW, None),
        (b"cluster:c-1", ROW, None),
        (b"client:\xff", ROW, None),
        (KEY, b"", None),
        (KEY, b"{", None),
        (KEY, b"\xff", None),
        (KEY, b"[" * 100_000, None),
        (KEY, b"{}", None),
        (KEY, encode_row(NEWER_VERSION), None),
        (KEY, encode_row(make_row(offset=9, metrics={"bytes_sent": 10**400})), None),
        (KEY, None, b"nonsense"),
        (b"client:stranger", None, b"nonsense"),
        (ledger_key(1), encode_row(LedgerRow(ROW_VERSION, 1)), None),
        (b"ledger:x", encode_row(LedgerRow(ROW_VERSION, 1)), None),
        (ledger_key(0), None, None),
        (ledger_key(0), b"{}", None),
        (ledger_key(0), encode_row(LedgerRow(ROW_VERSION + 8, 1)), None),
    ],
)
def test_an_undecodable_record_changes_nothing(
    store: StateStore, key: bytes | None, value: bytes | None, position: bytes | None
) -> None:
    put(store, offset=5, metrics={"bytes_sent": 1})
    before = exposition(store)
    with pytest.raises(RowError):
        store.apply(0, key, value, position)
    assert exposition(store) == before
    assert store.ledgers[0].offset == -1


label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", "\n", '\\"', "\\n", "{}", ",", "ü", "漢字", "\x7f", "\r"]
)
values = st.integers(0, 2**63) | st.floats(0, 2**63, allow_nan=False)


@st.composite
def records(draw: st.DrawFn) -> tuple[str, EntityRow | None, Position | None]:
    """Draw a record of one of a few entities: a row, or a tombstone with or without a position."""
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    key = f"{kind.name}:{draw(st.sampled_from(['a', 'b', 'c']))}"
    position = Position(draw(st.integers(-1, 6)), draw(st.integers(0, 2)))
    if draw(st.integers(0, 4)) == 0:
        return key, None, draw(st.sampled_from([position, None]))
    fields = [metric.field for metric in kind.metrics]
    row = make_row(
        offset=position.offset,
        index=position.index,
        incarnation=draw(st.integers(0, 2)),
        last_check_in=draw(st.floats(0, 4e9)),
        labels=draw(st.fixed_dictionaries({label.name: label_values for label in kind.labels})),
        metrics=draw(st.dictionaries(st.sampled_from(fields), values)),
        removed=draw(st.integers(0, 4)) == 0,
    )
    return key, row, position


def newest(
    rows: dict[str, EntityRow], key: str, row: EntityRow | None, position: Position | None
) -> dict[str, EntityRow]:
    """The simplest implementation of the rules: the rows that count after a record."""
    held = rows.get(key)
    if row is None:
        gone = held is not None and (position is None or position >= held.position)
        return {k: r for k, r in rows.items() if k != key} if gone else rows
    if held is not None and (row.position < held.position or row.incarnation < held.incarnation):
        return rows
    return rows | {key: row}


@given(st.lists(records(), max_size=25))
def test_a_scrape_exports_the_newest_rows_as_prometheus_client_does(
    history: list[tuple[str, EntityRow | None, Position | None]],
) -> None:
    store = StateStore([0])
    rows: dict[str, EntityRow] = {}
    for key, row, position in history:
        value = None if row is None else encode_row(row)
        header = encode_position(position) if row is None and position is not None else None
        changed = store.apply(0, key.encode(), value, header)
        after = newest(rows, key, row, position)
        assert changed == (after is not rows)
        rows = after
        text, openmetrics = rendered(rows)
        assert in_order(exposition(store)) == in_order(text)
        lines = exposition(store).split(b"\n")
        assert store.series() == sum(line[:1] not in (b"", b"#") for line in lines)
        assert in_order(exposition(store) + b"# EOF\n") == in_order(openmetrics)
    for kind in KINDS:
        alive = [key for key, row in rows.items() if key.startswith(kind) and not row.removed]
        assert store.entities(kind) == len(alive)


@given(st.lists(records(), max_size=25), st.lists(records(), max_size=5))
def test_deferred_rendering_gives_the_same_exposition(
    history: list[tuple[str, EntityRow | None, Position | None]],
    meanwhile: list[tuple[str, EntityRow | None, Position | None]],
) -> None:
    at_once, later = StateStore([0]), StateStore([0], defer_rendering=True)

    def apply(key: str, row: EntityRow | None, position: Position | None) -> None:
        value = None if row is None else encode_row(row)
        header = encode_position(position) if row is None and position is not None else None
        changed = [store.apply(0, key.encode(), value, header) for store in (at_once, later)]
        assert changed[0] == changed[1]
        assert at_once.find(*key.split(":")) == later.find(*key.split(":"))

    for record in history:
        apply(*record)
    for kind in KINDS:
        assert at_once.entities(kind) == later.entities(kind)
    steps = later.render_deferred()
    next(steps, None)
    for record in meanwhile:
        apply(*record)
    deque(steps, maxlen=0)
    assert in_order(exposition(at_once)) == in_order(exposition(later))
    assert at_once.series() == later.series()


def test_a_row_with_an_invalid_id_is_rejected_now_and_later() -> None:
    for cards_later in (False, True):
        store = StateStore([0], defer_rendering=cards_later)
        with pytest.raises(RowError):
            put(store, b"client:\xff")
        deque(store.render_deferred(), maxlen=0)
        assert shown(store) == ""


def test_later_rows_do_not_change_a_snapshot(store: StateStore) -> None:
    count = 3 * ENTITIES_PER_STEP + 7
    for n in range(count):
        put(store, f"client:c-{n}".encode(), offset=1, labels={"name": "old"})
    before = exposition(store)
    snapshot = store.snapshot()
    taken = [[next(steps), next(steps)] for steps in snapshot]
    for n in range(count):
        key = f"client:c-{n}".encode()
        if n % 3:
            put(store, key, offset=2, labels={"name": "new"}, metrics={"bytes_sent": n})
        else:
            store.apply(0, key, None)
            put(store, f"client:d-{n}".encode(), offset=2)
    rest = [chain(steps, later) for steps, later in zip(taken, snapshot, strict=True)]
    assert b"".join(render_exposition(rest, b"").decompressed()) == before
    assert exposition(store) != before


def test_an_undecodable_row_is_reported_until_a_newer_one_arrives(store: StateStore) -> None:
    newer = encode_row(make_row(offset=7)).replace(b'"version":1', b'"version":2')
    put(store, offset=5, metrics={"bytes_sent": 5})
    with pytest.raises(RowError):
        store.apply(0, KEY, newer)
    assert store.unreadable == {(0, KEY)}
    assert store.find("client", "c-1") is None, "the current row is not the newest"
    assert " 5\n" in shown(store)
    assert put(store, offset=8, metrics={"bytes_sent": 8})
    assert store.unreadable == set()
    assert store.find("client", "c-1") == (Position(8, 0), 0, False)
    with pytest.raises(RowError):
        store.apply(0, KEY, newer)
    assert store.unreadable == set(), "it is older than the current row"


@pytest.mark.parametrize("key", [b"client:c-1", b"gizmo:g-1", b"ledger:0"])
def test_undecodable_rows_are_counted_by_key(store: StateStore, key: bytes) -> None:
    for _ in range(2):
        with pytest.raises(RowError):
            store.apply(0, key, b"rubbish")
    assert store.unreadable == {(0, key)}


def test_a_tombstone_clears_an_undecodable_row(store: StateStore) -> None:
    with pytest.raises(RowError):
        store.apply(0, KEY, b"rubbish")
    assert not store.apply(0, KEY, None, encode_position(Position(1, 0)))
    assert store.unreadable == set()


@pytest.mark.parametrize("key", [b"gizmo:g-1", b"client:", b"ledger:7", b"ledger:x"])
def test_a_tombstone_clears_an_unknown_key(store: StateStore, key: bytes) -> None:
    with pytest.raises(RowError):
        store.apply(0, key, encode_row(make_row(offset=1)))
    assert store.unreadable == {(0, key)}
    assert not store.apply(0, key, None)
    assert store.unreadable == set()
