"""Entities with recent anomalies are counted, listed and forgotten after a day."""

from types import SimpleNamespace
from typing import Any

import pytest

from contract.anomaly import ANOMALY_VERSION, Anomaly, Reason, encode_anomaly
from exporter.checkins import anomalies
from exporter.checkins.anomalies import MAX_PER_ENTITY, PERIOD, RecentAnomalies
from exporter.checkins.query import Query
from tests.unit.exporter.checkins.conftest import NOW, Fleet
from tests.unit.invalid_json import invalid_json


def record(id: str = "a", *, at: float = NOW, kind: str = "client", offset: int = 7) -> Any:
    anomaly = Anomaly(
        ANOMALY_VERSION, kind, id, Reason.RATE, "too much", 2, offset, 1, round(at * 1000)
    )
    return SimpleNamespace(value=encode_anomaly(anomaly), offset=offset)


def test_an_entity_with_an_anomaly_is_counted_and_selected(fleet: Fleet) -> None:
    recent = RecentAnomalies(fleet.store)
    fleet.report("client", "a", age=1)
    fleet.report("client", "b", age=1)
    invalid = [SimpleNamespace(value=value, offset=9) for value in invalid_json()]
    recent.apply(2, [record("a"), record("unknown"), *invalid])
    view = fleet.view()
    assert view.anomalous() == 1
    (index,) = view.page(Query.parse([("anomalies", "true")])).indexes
    assert view.snapshot.keys[index] == b"client:a"
    ((at, anomaly, receipt),) = recent.of(b"client:a", NOW)
    assert (at, anomaly.reason, str(receipt)) == (NOW, Reason.RATE, f"2-7-1-{round(NOW * 1000)}")


def test_an_entity_that_reports_later_is_marked(fleet: Fleet) -> None:
    recent = RecentAnomalies(fleet.store)
    recent.apply(2, [record("a")])
    fleet.report("client", "a", age=1)
    recent.refresh(NOW)
    assert fleet.view().anomalous() == 1
    fleet.forget("client", "a")
    assert fleet.view().anomalous() == 0


def test_anomalies_are_forgotten_after_a_day(fleet: Fleet) -> None:
    recent = RecentAnomalies(fleet.store)
    fleet.report("client", "a", age=1)
    recent.apply(2, [record("a")])
    recent.refresh(NOW + PERIOD - 1)
    assert fleet.view().anomalous() == 1
    recent.refresh(NOW + PERIOD)
    assert fleet.view().anomalous() == 0
    assert list(recent.of(b"client:a", NOW)) == []


def test_memory_is_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomalies, "MAX_ENTITIES", 2)
    recent = RecentAnomalies(fleet.store)
    for id in ("a", "b", "c"):
        fleet.report("client", id, age=1)
    recent.apply(2, [record("a"), record("b"), record("a"), record("c")])
    assert fleet.view().anomalous() == 2
    assert not list(recent.of(b"client:b", NOW)), "the one whose newest is the oldest"
    recent.apply(2, [record("a", offset=n) for n in range(50)])
    found = [receipt.offset for _, _, receipt in recent.of(b"client:a", NOW)]
    assert found == [*range(49, 49 - MAX_PER_ENTITY, -1)]
