"""The registry's state: of several records of one revision, the first is the change."""

import pytest

from contract.kinds import CLIENT, HEADEND
from contract.registry import (
    RECORD_VERSION,
    Applied,
    RegistryError,
    RegistryRecord,
    RegistryState,
    encode_record,
    registered_labels,
)

KEY = b"client:a"


def record(name: str, revision: int = 1, generation: int | None = None) -> bytes:
    return encode_record(
        RegistryRecord(
            version=RECORD_VERSION,
            kind="client",
            id="a",
            revision=revision,
            name=name,
            attributes={"type": "native"},
            generation=generation,
        )
    )


def name_of(state: RegistryState) -> str | None:
    current = state.get(KEY)
    return None if current is None else current.name


def test_the_first_of_two_with_one_revision_is_the_change() -> None:
    state = RegistryState()
    assert state.apply(4, KEY, record("first")) is Applied.CURRENT
    assert state.apply(5, KEY, record("second")) is Applied.SUPERSEDED
    assert name_of(state) == "first"
    assert state.count("client") == 1


def test_a_generation_is_the_offset_of_the_first_record() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    state.apply(9, KEY, record("renamed", revision=2, generation=4))
    current = state.get(KEY)
    assert current is not None
    assert current.generation == 4


@pytest.mark.parametrize("kept", range(3))
def test_readers_after_compaction_agree_with_those_before(kept: int) -> None:
    """A change, one that was too late, and the copy that its writer appended for compaction."""
    log = [
        (4, record("current", revision=2, generation=1)),
        (5, record("too late", revision=2, generation=1)),
        (6, record("current", revision=3, generation=1)),
    ]
    state = RegistryState()
    for offset, value in log[kept:]:
        state.apply(offset, KEY, value)
    assert name_of(state) == "current"


def test_a_tombstone_forgets() -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    state.apply(5, KEY, None)
    assert state.get(KEY) is None
    assert state.count("client") == 0
    state.apply(6, KEY, record("again"))
    assert name_of(state) == "again"


@pytest.mark.parametrize(
    "value", [b"", b"{}", b'{"version":1}', record("x").replace(b":1,", b":7,", 1)]
)
def test_an_unreadable_record_changes_nothing(value: bytes) -> None:
    state = RegistryState()
    state.apply(4, KEY, record("first"))
    with pytest.raises(RegistryError):
        state.apply(5, KEY, value)
    assert name_of(state) == "first"


def test_labels_that_an_agent_may_override_are_apart() -> None:
    client = RegistryRecord(1, "client", "a", 1, "Anna", {"type": "mobile"})
    assert registered_labels(CLIENT, client) == ({"name": "Anna", "type": "mobile"}, {})
    where = {"region": "eu", "datacenter": "ams1", "cluster_id": "c1"}
    headend = RegistryRecord(1, "headend", "h", 1, "edge", where)
    firm, soft = registered_labels(HEADEND, headend)
    assert firm == {"region": "eu", "datacenter": "ams1"}
    assert soft == {"name": "edge"}
