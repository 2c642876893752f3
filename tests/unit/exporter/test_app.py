"""The exporter's composition root, with an in-memory state topic."""

from collections.abc import AsyncIterator

import httpx
import pytest
from aiokafka import ConsumerRecord

from contract.ledger import LedgerRow, ledger_key
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.row import ROW_VERSION, encode_row
from exporter.app import Exporter
from exporter.settings import ExporterSettings
from service.config.secrets import ReloadableTokens
from service.kafka.registry import RegistryReader
from service.kafka.tailer import TopicTailer
from tests.unit.exporter.model import make_row

METRIC = "tobogganing_headend_last_check_in_timestamp"


def record(topic: str, offset: int, key: bytes, value: bytes) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, 0, 1, key, value, None, len(key), len(value), ())


class InMemoryTailer(TopicTailer):
    """A tailer whose records are passed in."""

    def deliver(self, *records: tuple[bytes, bytes]) -> None:
        self._apply(0, [record(self.topic, n, *each) for n, each in enumerate(records)])

    def is_reachable(self, now: float | None = None) -> bool:
        return True


@pytest.fixture
def exporter() -> Exporter:
    settings = ExporterSettings(
        kafka_bootstrap_servers="127.0.0.1:1",
        kafka_partitions=1,
        metrics_token=ReloadableTokens("scrape"),
    )
    registry = RegistryReader(settings)
    registry.tailer = InMemoryTailer(settings, "registry", [0], registry.apply)
    return Exporter(settings, registry=registry, tailer_type=InMemoryTailer)


@pytest.fixture
async def http(exporter: Exporter) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(exporter.app()),
        base_url="http://exporter",
        headers={"Authorization": "Bearer scrape"},
    ) as http:
        yield http


def read_all(exporter: Exporter) -> None:
    """Deliver a row, a ledger and a registered headend, then report both topics as read."""
    assert isinstance(exporter.row_tailer, InMemoryTailer)
    assert exporter.registry is not None
    ledger = LedgerRow(ROW_VERSION, 9, read=5, applied=5)
    row = encode_row(make_row(labels={"name": "h"}))
    exporter.row_tailer.deliver((b"headend:h-1", row), (ledger_key(0), encode_row(ledger)))
    headend = RegistryRecord(RECORD_VERSION, "headend", "h-1", revision=0, name="h")
    exporter.registry.apply(0, [record("registry", 0, headend.key, encode_record(headend))])
    for _ in exporter.store.render_deferred():
        pass
    exporter.row_tailer.caught_up = exporter.registry.tailer.caught_up = True


async def test_a_scrape_waits_for_the_initial_read(
    exporter: Exporter, http: httpx.AsyncClient
) -> None:
    refused = await http.get("/metrics")
    assert refused.status_code == 503
    assert refused.json() == {"error": "Not ready: waiting for entity-state, registry"}
    assert (await http.get("/-/ready")).status_code == 503
    read_all(exporter)
    assert (await http.get("/-/ready")).status_code == 200
    scraped = await http.get("/metrics")
    assert scraped.status_code == 200
    (sample,) = [line for line in scraped.text.splitlines() if line.startswith(METRIC + "{")]
    assert 'name="h"' in sample
    assert sample.endswith("} 1.5")
    assert 'tobogganing_pipeline_applied_total{partition="0"} 5.0' in scraped.text


async def test_a_scrape_after_a_covered_receipt_does_not_wait(
    exporter: Exporter, http: httpx.AsyncClient
) -> None:
    read_all(exporter)
    assert (await http.get("/metrics", params={"after": "0-9-0"})).status_code == 200
    assert (await http.get("/metrics", params={"after": "1-0-0"})).status_code == 421


async def test_the_ledger_is_the_one_that_was_read(
    exporter: Exporter, http: httpx.AsyncClient
) -> None:
    read_all(exporter)
    (partition,) = (await http.get("/api/v1/ledger")).json()["partitions"]
    assert (partition["offset"], partition["read"], partition["applied"]) == (9, 5, 5)
    assert partition["lag_records"] is None  # no end offsets yet


async def test_only_the_bearer_of_the_token_may_scrape(
    exporter: Exporter, http: httpx.AsyncClient
) -> None:
    read_all(exporter)
    for path in ("/metrics", "/api/v1/ledger", "/api/v1/receipts/0-0-0", "/-/metrics"):
        refused = await http.get(path, headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401
