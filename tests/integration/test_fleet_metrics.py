"""The fleet's totals on a real broker: each growth counts once, whatever is killed, and no exporter
shows a lower total than another has shown.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.total import decode_total, is_total_key
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics
from tests.integration.processes import Service
from tests.integration.workers import (
    RowModel,
    WorkerLoad,
    a_worker,
    assert_nothing_lost,
    running,
    settled,
)

ROUNDS = int(os.environ.get("ROUNDS", "2"))
SENT = ("tobogganing_fleet_client_bytes_sent_total", "native", "false")

Shown = dict[tuple[str, str, str], float]
"""Totals of clients: name, type, headless."""


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await ensure_topics(kafka_settings)
    return kafka_settings


async def totals(exporter: Service) -> Shown | None:
    """Totals of a fleet scrape; None where it was refused, or shows none."""
    response = await exporter.http.get("/metrics/fleet", headers=exporter.authorized)
    if response.status_code == 503:
        return None
    assert response.status_code == 200, response.text
    shown = {
        (sample.name, sample.labels["type"], sample.labels["headless"]): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name.startswith("tobogganing_fleet_client_") and sample.name.endswith("_total")
    }
    return shown or None


class Prometheus:
    """Scrapes one of some exporters after the other, as an edge that fails over would let it."""

    def __init__(self, *exporters: Service) -> None:
        self._exporters = exporters
        self.seen: Shown = {}
        self.scrapes = 0
        self.wrong: list[str] = []

    async def run(self) -> None:
        while True:
            for exporter in self._exporters:
                await self.scrape(exporter)
            await asyncio.sleep(0.05)

    async def scrape(self, exporter: Service) -> None:
        shown = await totals(exporter)
        if shown is None:
            return
        self.scrapes += 1
        for series, value in shown.items():
            if value < self.seen.get(series, 0.0):
                self.wrong.append(f"{series} fell from {self.seen[series]} to {value}")
        self.seen |= shown


async def test_totals_are_those_of_a_recount_and_never_fall_whatever_is_killed(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    chance = random.Random(int(os.environ.get("SEED", "7")))
    workers = [a_worker(settings, f"w{number}", tmp_path) for number in (1, 2)]
    exporters = [Service("exporter", settings, tmp_path) for _ in range(2)]
    load = WorkerLoad(settings, rate=500)
    async with running(*workers, *exporters):
        prometheus = Prometheus(*exporters)
        scraping = asyncio.create_task(prometheus.run())
        async with load.running():
            for _ in range(ROUNDS):
                target = load.sent + chance.randrange(500, 1500)
                while load.sent < target:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                worker = chance.choice(workers)
                await worker.end(signal.SIGKILL)
                await worker.start()
                await worker.wait_until_ready()
        await settled(settings)
        scraping.cancel()
        for exporter in exporters:
            await prometheus.scrape(exporter)
    found = await assert_nothing_lost(settings, load)
    recounted = Counter[str]()
    model = await RowModel.of(settings)
    for state in model.states.values():
        for key in state.total_keys:
            recounted.update(decode_total(state.rows[key]).values)
    assert recounted["bytes_sent"] > 0
    assert any(is_total_key(key) for key in found.rows)
    assert prometheus.seen[SENT] == recounted["bytes_sent"]
    assert prometheus.wrong == []
    assert prometheus.scrapes > 10
    assert [each.faults() for each in workers] == [[], []]


async def test_two_shards_show_what_one_exporter_shows(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w1", tmp_path)
    whole = Service("exporter", settings, tmp_path)
    shards = [
        Service("exporter", settings, tmp_path, EXPORTER_SHARD=shard) for shard in ("1/2", "2/2")
    ]
    load = WorkerLoad(settings, rate=500)
    async with running(worker, whole, *shards):
        async with load.running():
            while load.sent < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await settled(settings)
        one = await totals(whole)
        two = [await totals(each) for each in shards]
    assert one
    assert one[SENT] > 0
    added = Counter[tuple[str, str, str]]()
    for each in two:
        added.update(each or {})
    assert one == dict(added)


async def test_what_the_endpoint_refuses(settings: KafkaSettings, tmp_path: Path) -> None:
    exporter = Service("exporter", settings, tmp_path)
    async with running(exporter):
        assert (await exporter.http.get("/metrics/fleet")).status_code == 401
        assert (await exporter.http.post("/metrics/fleet")).status_code == 405
        head = await exporter.http.head("/metrics/fleet", headers=exporter.authorized)
        assert (head.status_code, head.content) == (200, b"")


async def test_a_prometheus_of_a_large_fleet_gets_the_pipeline_too(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    exporter = Service("exporter", settings, tmp_path)
    async with running(exporter):
        for query, number in (("", 0), ("?pipeline=false", 0), ("?pipeline=true", 4)):
            path = "/metrics/fleet" + query
            text = (await exporter.http.get(path, headers=exporter.authorized)).text
            assert text.count("\ntobogganing_pipeline_read_total{") == number
            assert text.count("\ntobogganing_manager_clients_total ") == bool(number)
