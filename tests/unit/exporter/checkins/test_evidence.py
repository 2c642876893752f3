"""Evidence in the exporter: bounded, merged over writers, and that of expired entities."""

from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord
from structlog.testing import capture_logs

from contract.evidence import PROCESSOR, Evidence, EvidenceReason, encode_evidence
from exporter.checkins import evidence as module
from exporter.checkins.evidence import EvidenceStore, Reported
from exporter.checkins.state import NEVER, OFFLINE, ONLINE
from tests.unit.exporter.checkins.conftest import NOW, Fleet

UNAUTHORIZED, STALE = EvidenceReason.UNAUTHORIZED, EvidenceReason.STALE
LAST = NOW - 100_000


def evidence(
    id: str, reason: EvidenceReason, writer: str = PROCESSOR, *, last: int = 2, **more: object
) -> Evidence:
    return Evidence(1, "client", id, writer, reason, 3, 1, last, **more)  # type: ignore[arg-type]


def record(key: bytes, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord("evidence", 0, 0, 0, 1, key, value, None, 0, 0, ())


def apply(store: EvidenceStore, *found: Evidence) -> None:
    store.apply(0, [record(each.key, encode_evidence(each)) for each in found])


def expired(fleet: Fleet, id: str, incarnation: int | None = None) -> Evidence:
    registered = fleet.registered.get(f"client:{id}".encode())
    assert registered is not None
    own = registered.incarnation if incarnation is None else incarnation
    return evidence(id, EvidenceReason.EXPIRED, last=round(LAST * 1000), incarnation=own)


@pytest.fixture
def store(fleet: Fleet) -> EvidenceStore:
    return EvidenceStore(fleet.registered, fleet.directory.on_expired)


def states(fleet: Fleet) -> list[int]:
    return [int(state) for state in fleet.view().states if state >= 0]


def test_several_writers_are_added_up(store: EvidenceStore) -> None:
    first = evidence("a", UNAUTHORIZED, "gateway-1", last=5, network="192.0.2.0/24")
    second = evidence("a", UNAUTHORIZED, "gateway-2", last=9, network="198.51.100.0/24")
    apply(store, second, first, evidence("a", STALE, receipt="0-1-2-3"), evidence("b", STALE))
    assert store.find(b"client:a") == [
        Reported(STALE, 3, 1, 2, "", "", "0-1-2-3"),
        Reported(UNAUTHORIZED, 6, 1, 9, "198.51.100.0/24", "", ""),
    ]
    apply(store, evidence("a", UNAUTHORIZED, "gateway-2", last=10))
    assert store.find(b"client:a")[-1].times == 6, "a writer's record replaces its earlier one"
    assert store.find(b"client:c") == []


def test_memory_is_bounded_and_the_oldest_is_dropped(
    store: EvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 10)
    apply(store, *(evidence(f"c-{number}", STALE) for number in range(10)))
    apply(store, evidence("c-0", STALE), evidence("c-0", UNAUTHORIZED), evidence("new", STALE))
    assert len(store) == 10
    assert [bool(store.find(f"client:c-{number}".encode())) for number in range(4)] == [
        *(True, False, False, True)
    ]
    store.clear()
    assert len(store) == 0
    assert store.find(b"client:new") == []


def test_tombstones_and_what_cannot_be_decoded(store: EvidenceStore) -> None:
    stale = evidence("a", STALE)
    apply(store, stale)
    with capture_logs() as said:
        store.apply(0, [record(b"client:b|processor|stale", encode_evidence(stale))])
        store.apply(0, [record(b"rubbish", b"{"), record(b"rubbish", None)])
    assert [line["event"] for line in said] == ["evidence skipped"] * 2
    store.apply(0, [record(stale.key, None)])
    assert store.find(b"client:a") == []
    assert len(store) == 0


@pytest.mark.parametrize("order", [("row", "evidence"), ("evidence", "row")])
def test_an_expired_entity_is_offline_until_it_is_removed(
    fleet: Fleet, store: EvidenceStore, order: Sequence[str]
) -> None:
    fleet.register("client", "a", type="native")
    fleet.report("client", "a", 100_000)
    for topic in order:
        if topic == "row":
            fleet.forget("client", "a")
        else:
            apply(store, expired(fleet, "a"))
    assert states(fleet) == [OFFLINE]
    assert fleet.view().snapshot.last[0] == LAST
    assert len(store) == 0, "it is kept in the directory only"
    fleet.register("client", "a", removed=True)
    assert states(fleet) == []
    fleet.register("client", "a", type="native")
    assert states(fleet) == [NEVER]
    assert fleet.view().snapshot.last.tolist()[-1] == 0


def test_an_expired_entity_may_return(fleet: Fleet, store: EvidenceStore) -> None:
    fleet.register("client", "a", type="native")
    apply(store, expired(fleet, "a"))
    assert states(fleet) == [OFFLINE]
    fleet.report("client", "a", 10)
    assert states(fleet) == [ONLINE]
    apply(store, expired(fleet, "a"))  # as a starting exporter reads it after the row
    assert states(fleet) == [ONLINE]
    assert fleet.view().snapshot.last[0] == NOW - 10


def test_the_expiry_of_an_earlier_registration_does_not_count(
    fleet: Fleet, store: EvidenceStore
) -> None:
    fleet.register("client", "a", type="native")
    apply(store, expired(fleet, "a", incarnation=999))
    assert states(fleet) == [NEVER]


def test_an_entity_that_is_not_registered_ends_with_its_row(
    fleet: Fleet, store: EvidenceStore
) -> None:
    fleet.report("client", "a", 10)
    apply(store, evidence("a", EvidenceReason.EXPIRED, last=round(LAST * 1000), incarnation=1))
    fleet.forget("client", "a")
    assert states(fleet) == []
