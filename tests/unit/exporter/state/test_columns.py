"""The columns of a table: what rows and registrations say of each slot, whichever comes first."""

from typing import Any

from contract.kinds import CLIENT, HEADEND
from contract.row import encode_row
from exporter.state import entity_table
from exporter.state.columns import (
    ANOMALOUS,
    EXPIRED,
    MAX_PENDING,
    NO_CHECK_IN,
    REGISTERED,
    REPORTED,
)
from exporter.state.entity_table import EntityTable
from tests.unit.exporter.model import make_row


def report(table: EntityTable, id: str, offset: int = 0, **values: Any) -> bool:
    value = encode_row(make_row(offset=offset, **values))
    return table.apply_row(f"{table.columns.kind.name}:{id}".encode(), id.encode(), value)


def state(table: EntityTable, key: bytes) -> tuple[int, str, float, tuple[str, ...]]:
    """Flags, name, last check-in and group of an entity."""
    columns, slot = table.columns, table.slot(key)
    assert slot is not None
    columns.take_over()
    group = columns.groups.groups[columns.group_codes[slot]]
    return columns.flags[slot], columns.names[slot], columns.last_check_ins[slot], group


def test_a_row_takes_precedence_over_the_registration() -> None:
    table = EntityTable(CLIENT)
    table.register(b"client:a", "Registered", {"type": "native"})
    assert state(table, b"client:a") == (REGISTERED, "Registered", 0, ("native", "false"))
    assert len(table) == 0
    assert table.find(b"client:a") is None
    labels = {"name": "Sent", "type": "docker", "headless": "true"}
    assert report(table, "a", labels=labels, last_check_in=7.0)
    reported = (REGISTERED | REPORTED, "Sent", 7.0, ("docker", "true"))
    assert state(table, b"client:a") == reported
    table.register(b"client:a", "Renamed", {"type": "mobile"})
    assert state(table, b"client:a") == reported


def test_equal_labels_are_shown_again_after_what_came_between() -> None:
    """Labels that are equal to those of the previous row are not decoded again."""
    table = EntityTable(CLIENT)
    labels = {"name": 'A "B"', "type": "docker", "headless": "true"}
    for offset in range(2):
        assert report(table, "a", offset, labels=labels)
    shown = table.rendered(b"client:a")
    table.register(b"client:a", "Registered", {"type": "native"})
    table.apply_tombstone(b"client:a", None)
    table.register(b"client:a", "Registered", {"type": "native"})
    assert state(table, b"client:a")[1] == "Registered"
    assert report(table, "a", 5, labels=labels)
    assert state(table, b"client:a")[1::2] == ('A "B"', ("docker", "true"))
    assert table.rendered(b"client:a") == shown
    assert report(table, "a", 6, labels=labels | {"name": "C"})
    assert state(table, b"client:a")[1] == "C"
    assert 'name="C"' in table.rendered(b"client:a")


def test_a_registered_entity_keeps_its_slot_without_a_row() -> None:
    table = EntityTable(HEADEND)
    table.register(b"headend:a", "A", {"region": "eu", "datacenter": "fra1", "cluster_id": "c"})
    slot = table.slot(b"headend:a")
    assert report(table, "a", 5, last_check_in=7.0)
    assert table.apply_tombstone(b"headend:a", None)
    assert not table.apply_tombstone(b"headend:a", None), "there is no row any more"
    assert table.slot(b"headend:a") == slot
    flags, _, last, _ = state(table, b"headend:a")
    assert (flags, last) == (REGISTERED, NO_CHECK_IN)
    assert report(table, "a", 1), "a row after its end may have any position"
    table.unregister(b"headend:a")
    assert state(table, b"headend:a")[0] == REPORTED
    table.apply_tombstone(b"headend:a", None)
    assert table.slot(b"headend:a") is None


def test_an_expired_entity_keeps_its_last_check_in_while_it_is_registered() -> None:
    table = EntityTable(CLIENT)
    table.register(b"client:a", "A", {"type": "native"})
    report(table, "a", 1, last_check_in=7.0)
    table.expire(b"client:a", 7.0)
    table.apply_tombstone(b"client:a", None)
    assert state(table, b"client:a")[:3:2] == (REGISTERED | EXPIRED, 7.0)
    report(table, "a", 2, last_check_in=5000.0)
    assert state(table, b"client:a")[:3:2] == (REGISTERED | REPORTED, 5000.0)
    slot = table.slot(b"client:a")
    assert slot is not None
    assert table.columns.cadences[slot] == 0, "its absence is no interval"
    table.apply_tombstone(b"client:a", None)
    table.expire(b"client:a", 5000.0)
    assert state(table, b"client:a")[:3:2] == (REGISTERED | EXPIRED, 5000.0)
    table.unregister(b"client:a")
    assert table.slot(b"client:a") is None
    assert (table.columns.flags[slot], table.columns.last_check_ins[slot]) == (0, NO_CHECK_IN)
    table.expire(b"client:a", 7.0)
    assert table.slot(b"client:a") is None


def test_a_freed_slot_shows_nothing_and_is_used_again_after_a_while(monkeypatch: Any) -> None:
    now = 0.0
    monkeypatch.setattr("exporter.state.entity_table.time.monotonic", lambda: now)
    table = EntityTable(CLIENT)
    report(table, "a")
    table.mark_anomalous(b"client:a", True)
    slot = table.slot(b"client:a")
    assert slot is not None
    assert table.columns.flags[slot] & ANOMALOUS
    table.apply_tombstone(b"client:a", None)
    assert (table.columns.keys[slot], table.columns.flags[slot]) == (None, 0)
    report(table, "b")
    assert table.slot(b"client:b") != slot
    now = 61.0
    report(table, "c")
    assert table.slot(b"client:c") == slot
    assert table.columns.keys[slot] == b"client:c"


def test_the_usual_interval_is_learnt() -> None:
    table = EntityTable(CLIENT)
    for offset, time in enumerate((1000.0, 1060.0, 1120.0, 1120.0, 1180.0)):
        report(table, "a", offset, last_check_in=time)
        table.columns.take_over()
    slot = table.slot(b"client:a")
    assert slot is not None
    assert table.columns.cadences[slot] == 60.0
    report(table, "a", 9, last_check_in=1320.0)
    table.columns.take_over()
    assert table.columns.cadences[slot] == 70.0


def test_rows_that_wait_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(entity_table, "MAX_PENDING", 3)
    assert MAX_PENDING > 3
    table = EntityTable(CLIENT)
    for offset in range(10):
        report(table, "a", offset, last_check_in=float(offset))
        assert len(table.columns.pending) < 3
    assert state(table, b"client:a")[2] == 9.0
