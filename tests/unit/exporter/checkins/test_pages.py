"""Pages from templates: tiles, the pipeline, activity and anomalies, with every text escaped."""

from typing import Any, cast

import pytest
from starlette.requests import Request

from contract.row import LedgerRow, encode_ledger_row, ledger_key
from exporter.checkins import pages
from exporter.checkins.anomalies import RecentAnomalies
from exporter.checkins.evidence import Reported
from exporter.checkins.freshness import Freshness
from exporter.checkins.lookup import Findings
from exporter.checkins.query import Query
from exporter.checkins.service import CheckinService
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from service.config.settings import load_settings
from service.kafka.registry import RegistryReader
from service.kafka.tailer import TopicTailer
from tests.unit.exporter.checkins.conftest import NOW, Fleet
from tests.unit.exporter.checkins.test_anomalies import record

HOSTILE = "<script>alert(1)</script>"
ENVIRON = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
    "METRICS_TOKEN": "t" * 32,
    "KAFKA_PARTITIONS": "1",
}


class Lookup:
    async def find(self, kind: str, id: str, partition: int) -> Findings:
        return Findings([], [])


class Evidence:
    async def find(self, entity: bytes) -> list[Reported]:
        return []


@pytest.fixture
def service(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> CheckinService:
    settings = load_settings(ExporterSettings, ENVIRON)
    source = SourceLagMonitor(settings, "submissions", fleet.store.ledgers)
    tailer = TopicTailer(settings, "entity-state", [0], lambda *_: None)
    monkeypatch.setattr(source, "seconds_since_response", lambda: 0.0)
    monkeypatch.setattr(tailer, "seconds_since_response", lambda: 0.0)
    freshness = Freshness(fleet.store.ledgers, source, tailer, now=lambda: NOW)

    async def ready() -> list[str]:
        return []

    registry = RegistryReader(settings)
    monkeypatch.setattr(registry, "state", fleet.registered)
    service = CheckinService(settings, fleet.store, registry, freshness, source, TopicTailer, ready)
    service.directory = fleet.directory
    service._lookup = cast(Any, Lookup())
    service._evidence = cast(Any, Evidence())
    return service


def get(path: str) -> Request:
    return Request(
        {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    )


async def listed(service: CheckinService, *parameters: tuple[str, str]) -> str:
    response = await pages.list_page(get("/checkins"), service, Query.parse(parameters))
    return bytes(response.body).decode()


def report(fleet: Fleet) -> None:
    labels = {"name": HOSTILE, "type": "native", "headless": "false"}
    fleet.register("client", "a", name=HOSTILE, type="native")
    fleet.report("client", "a", age=1000, labels=labels, metrics={"bytes_sent": 5})


async def test_the_overview_shows_anomalies_and_the_pipeline(
    fleet: Fleet, service: CheckinService
) -> None:
    report(fleet)
    RecentAnomalies(fleet.store).apply(0, [record("a", at=NOW - 60)])
    ledger = LedgerRow(1, 9, read=12, applied=9, dead_lettered=3)
    fleet.store.apply(0, ledger_key(0), encode_ledger_row(ledger))
    html = await listed(service)
    assert '<b id="count-anomalies">1</b>' in html
    assert '<div class="bad"><dt>Dead letters</dt><dd>3</dd>' in html
    assert "<div><dt>Lost</dt><dd>0</dd>" in html
    assert "&lt;script&gt;" in html
    assert HOSTILE not in html
    assert "found" in await listed(service, ("anomalies", "true"))
    assert "Headends online" in await listed(service, ("kind", "clusters"))


async def test_an_entity_shows_activity_anomalies_and_key_dates(
    fleet: Fleet, service: CheckinService
) -> None:
    report(fleet)
    service.anomalies.apply(0, [record("a", at=NOW - 60)])
    response = await pages.entity_page(get("/checkins/clients/a"), service, "client", "a")
    html = bytes(response.body).decode()
    assert response.status_code == 200
    assert html.count("<li class=") == 48, "half-hours"
    assert "too much" in html
    assert "0 valid" in html, "API keys"
    assert HOSTILE not in html
    missing = await pages.entity_page(get("/checkins/clients/b"), service, "client", "b")
    assert missing.status_code == 404
