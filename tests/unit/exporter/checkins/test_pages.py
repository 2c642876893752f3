"""Pages from templates: tiles, the pipeline, activity and anomalies, with every text escaped."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.requests import Request

from contract.evidence import PROCESSOR, EvidenceReason, encode_evidence
from contract.row import LedgerRow, encode_ledger_row, ledger_key
from exporter.checkins import pages, views
from exporter.checkins.anomalies import RecentAnomalies
from exporter.checkins.evidence import EvidenceStore, Reported
from exporter.checkins.export import csv_steps
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
from tests.unit.exporter.checkins.test_evidence import evidence
from tests.unit.exporter.checkins.test_evidence import record as evidence_record

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
    def __init__(self, fleet: Fleet) -> None:
        self.store = EvidenceStore(fleet.registered, fleet.directory.on_expired)

    async def find(self, entity: bytes) -> list[Reported]:
        return self.store.find(entity)


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
    service._evidence = cast(Any, Evidence(fleet))
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


async def test_the_list_works_before_the_first_submission_was_processed(
    service: CheckinService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While submissions wait, nothing is known of any time."""
    monkeypatch.setattr(service.freshness, "as_of", lambda: 0.0)
    assert "No submission was processed yet." in await listed(service)


async def test_the_list_shows_rates_since_the_previous_report(
    fleet: Fleet, service: CheckinService
) -> None:
    labels = {"name": "Ann", "type": "native", "headless": "false"}
    for age, sent in ((70, 10_000), (10, 100_000)):
        metrics = {"bytes_sent": sent, "connection_uptime": 1000 - age}
        fleet.report("client", "a", age=age, labels=labels, metrics=metrics)
    assert ">1.5 kB/s</td>" in await listed(service)
    document = service.entity("client", "a")
    shown = {each["field"]: each["rate"] for each in document["values"]}
    assert shown == {"bytes_sent": 1500.0, "connection_uptime": None, "last_check_in": None}
    view = await service.views.view("client")
    [first, *rest] = csv_steps(view, [0], Query.parse([]), fleet.store)
    header, row = csv.reader(io.StringIO((first + b"".join(rest)).decode()))
    values = dict(zip(header, row, strict=True))
    assert values["bytes_sent_per_second"] == "1500.0"
    assert (values["connection_uptime"], values["bytes_received_per_second"]) == ("990", "")


@pytest.mark.parametrize(("age", "sent"), [(70, 200), (10, 5)], ids=["no time", "a restart"])
async def test_there_is_no_rate(fleet: Fleet, service: CheckinService, age: int, sent: int) -> None:
    labels = {"name": "Ann", "type": "native", "headless": "false"}
    fleet.report("client", "a", age=70, labels=labels, metrics={"bytes_sent": 100})
    assert service.entity("client", "a")["values"][0]["rate"] is None
    fleet.report("client", "a", age=age, labels=labels, metrics={"bytes_sent": sent})
    assert service.entity("client", "a")["values"][0]["rate"] is None


async def test_the_overview_counts_entities_that_are_refused(
    fleet: Fleet, service: CheckinService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.checkins.service.time.time", lambda: NOW)
    hour = 3_600_000
    for id, reason, writer, last in (
        ("a", EvidenceReason.UNAUTHORIZED, "gateway-1", 0),
        ("a", EvidenceReason.UNAUTHORIZED, "gateway-2", 0),
        ("b", EvidenceReason.UNAUTHORIZED, "gateway-1", 0),
        ("b", EvidenceReason.INVALID, "gateway-1", hour + 1000),
        ("b", EvidenceReason.STALE, PROCESSOR, 0),
    ):
        found = evidence(id, reason, writer, last=round(NOW * 1000) - last)
        service._evidence.store.apply(0, [evidence_record(found.key, encode_evidence(found))])
    assert (await service.status())["refused"] == {"401": 2}
    assert "Refused with 401, last hour</dt><dd>2 entities" in await listed(service)


async def test_an_entity_has_links_to_pages_elsewhere(
    fleet: Fleet, service: CheckinService
) -> None:
    report(fleet)
    service.settings = dataclasses.replace(
        service.settings,
        grafana_url="https://grafana.example.com/",
        runbook_url="https://wiki.example.com/runbook",
    )
    response = await pages.entity_page(get("/checkins/clients/a"), service, "client", "a")
    html = bytes(response.body).decode()
    dashboard = "https://grafana.example.com/d/tobogganing-entity?var-client=a"
    assert f'<a href="{dashboard}" rel="noreferrer">' in html
    assert '<a href="https://wiki.example.com/runbook" rel="noreferrer">' in html


def test_the_linked_dashboard_takes_an_id_of_each_kind() -> None:
    declared = json.loads(Path("deploy/grafana/dashboards/entity.json").read_text())
    names = {each["name"] for each in declared["templating"]["list"]}
    assert declared["uid"] == pages.DASHBOARD
    assert names >= {"client", "headend"}


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


async def test_a_page_that_was_expensive_is_rendered_once_for_all(
    fleet: Fleet, service: CheckinService, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.report("client", "a", age=1, labels={"name": "Ann"})
    monkeypatch.setattr(views, "MAX_SHARE", 1e-12)
    monkeypatch.setattr(views, "MAX_AGE", 1e5)
    first = await listed(service, ("sort", "name"))
    fleet.report("client", "b", age=1, labels={"name": "Bob"})
    assert await listed(service, ("sort", "name")) == first
    assert "Bob" not in await listed(service, ("sort", "-name")), "of the same view"
    monkeypatch.setattr(views, "KEPT_SECONDS", -1.0)
    service.views.release_unused()
    assert fleet.store.table("client").columns.changed is None
    assert "Bob" in await listed(service, ("sort", "name"))
