"""The registry's state: of several records with one revision, the first one wins."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.kinds import CLIENT, HEADEND
from contract.registry import (
    RECORD_VERSION,
    RegistryError,
    RegistryRecord,
    encode_record,
    registered_labels,
)
from contract.registry_state import ApplyResult, RegistryState

KEY = b"client:a"


def record(name: str, revision: int = 1, incarnation: int | None = None, **more: Any) -> bytes:
    return encode_record(
        RegistryRecord(
            version=RECORD_VERSION,
            kind="client",
            id="a",
            revision=revision,
            name=name,
            attributes={"type": "native"},
            incarnation=incarnation,
            **more,
        )
    )


def name_of(state: RegistryState) -> str | None:
    current = state.get(KEY)
    return None if current is None else current.name


def test_the_first_record_of_a_revision_wins() -> None:
    state = RegistryState()
    assert state.apply(4, KEY, record("first")) is ApplyResult.CURRENT
    assert state.apply(5, KEY, record("second")) is ApplyResult.SUPERSEDED
    assert name_of(state) == "first"
    assert state.count("client") == 1


def test_an_incarnation_is_the_offset_of_the_first_record() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    state.apply(9, KEY, record("renamed", revision=2, incarnation=4))
    current = state.get(KEY)
    assert current is not None
    assert current.incarnation == 4


@pytest.mark.parametrize("kept", range(3))
def test_readers_after_compaction_agree_with_those_before(kept: int) -> None:
    """The log has a change, a superseded one, and the copy that its writer appended for
    compaction."""
    log = [
        (4, record("current", revision=2, incarnation=1)),
        (5, record("too late", revision=2, incarnation=1)),
        (6, record("current", revision=3, incarnation=1)),
    ]
    state = RegistryState()
    for offset, value in log[kept:]:
        state.apply(offset, KEY, value)
    assert name_of(state) == "current"


def test_a_tombstone_removes_the_record() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    state.apply(5, KEY, None)
    assert state.get(KEY) is None
    assert state.count("client") == 0
    state.apply(6, KEY, record("again"))
    assert name_of(state) == "again"


def test_a_tombstone_removes_only_its_revision() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("gone", revision=3, removed=True, expires_at_ms=7))
    state.apply(5, KEY, record("back again", revision=4))
    assert state.apply(6, KEY, None, revision=3) is ApplyResult.SUPERSEDED
    assert name_of(state) == "back again"
    state.apply(7, KEY, record("gone again", revision=5, removed=True, expires_at_ms=9))
    assert state.apply(8, KEY, None, revision=5) is ApplyResult.CURRENT
    assert state.current(KEY) is None
    assert state.apply(9, KEY, None, revision=5) is ApplyResult.CURRENT


def test_a_late_tombstone_does_not_remove_a_new_registration_with_the_same_revision() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("gone", revision=2, removed=True, expires_at_ms=7))
    state.apply(5, KEY, None, revision=2)
    state.apply(6, KEY, record("back again"))
    state.apply(7, KEY, record("rotated", revision=2, incarnation=6))
    assert state.apply(8, KEY, None, revision=2) is ApplyResult.SUPERSEDED
    assert name_of(state) == "rotated"


def test_an_older_change_does_not_undo_a_removal() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    state.apply(5, KEY, record("gone", revision=2, removed=True, expires_at_ms=70))
    assert (
        state.apply(6, KEY, record("rotated", revision=2, incarnation=4)) is ApplyResult.SUPERSEDED
    )
    assert name_of(state) is None
    assert state.count("client") == 0
    assert list(state.registered("client")) == []
    assert (state.expired_keys(69), state.expired_keys(70)) == ([], [KEY])


Step = tuple[int, str]
"""How many changes before this one the writer last read the state, and what it writes."""


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(("rename", "remove", "add", "drop")))),
    st.data(),
)
def test_a_compacted_log_gives_the_same_state_as_the_whole_log(
    steps: list[Step], data: Any
) -> None:
    """Writers may be behind; their superseded records are covered by copies."""
    state = RegistryState()
    log: list[tuple[int, bytes | None, int | None]] = []
    known: list[RegistryRecord | None] = [None]

    def write(value: bytes | None, revision: int | None = None) -> None:
        log.append((len(log), value, revision))
        if state.apply(len(log) - 1, KEY, value, revision) is ApplyResult.SUPERSEDED:
            current = state.current(KEY)
            assert current is not None
            write(encode_record(replace(current, revision=current.revision + 1)))

    for number, (behind, what) in enumerate(steps):
        base = known[max(0, len(known) - 1 - behind)]
        if what == "add":
            if base is None or base.removed:
                write(record(f"n{number}", revision=base.revision + 1 if base else 1))
        elif base is not None and what == "drop":
            # Only old removals are dropped, and no writer is that far behind.
            if base.removed and base == state.current(KEY):
                write(None, base.revision)
                known.clear()
        elif base is not None and not base.removed:
            changed = replace(base, revision=base.revision + 1, name=f"n{number}")
            if what == "remove":
                changed = replace(changed, removed=True, expires_at_ms=number)
            write(encode_record(changed))
        known.append(state.current(KEY))

    cleaned = data.draw(st.integers(0, len(log)))
    kept = RegistryState()
    for offset, value, revision in log[max(0, cleaned - 1) :]:
        kept.apply(offset, KEY, value, revision)
    assert kept.current(KEY) == state.current(KEY)
    assert kept.count("client") == state.count("client")


def test_counts_by_type_and_by_cluster() -> None:
    state = RegistryState()
    for number, (id, type) in enumerate((("a", "native"), ("b", "mobile"), ("c", "mobile"))):
        client = RegistryRecord(RECORD_VERSION, "client", id, 1, id, {"type": type})
        state.apply(number, client.key, encode_record(client))
    headend = RegistryRecord(RECORD_VERSION, "headend", "h", 1, "h", {"cluster_id": "k"})
    state.apply(3, headend.key, encode_record(headend))
    assert (state.count_clients("native"), state.count_clients("mobile")) == (1, 2)
    assert state.count_headends("k") == 1
    state.apply(4, headend.key, encode_record(replace(headend, revision=2, removed=True)))
    state.apply(5, b"client:b", None)
    assert state.count_clients("mobile") == 1
    assert state.count_headends("k") == 0
    assert [each.id for each in state.registered("client")] == ["a", "c"]
    assert [each.id for each in state.registered("client", after="a")] == ["c"]


@pytest.mark.parametrize(
    "value", [b"", b"{}", b'{"version":1}', record("x").replace(b":1,", b":7,", 1)]
)
def test_an_undecodable_record_changes_nothing(value: bytes) -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    with pytest.raises(RegistryError):
        state.apply(5, KEY, value)
    assert name_of(state) == "first"


def test_overridable_labels_are_separate() -> None:
    client = RegistryRecord(1, "client", "a", 1, "Anna", {"type": "mobile"})
    assert registered_labels(CLIENT, client) == ({"name": "Anna", "type": "mobile"}, {})
    where = {"region": "eu", "datacenter": "ams1", "cluster_id": "c1"}
    headend = RegistryRecord(1, "headend", "h", 1, "edge", where)
    firm, soft = registered_labels(HEADEND, headend)
    assert firm == {"region": "eu", "datacenter": "ams1"}
    assert soft == {"name": "edge"}
