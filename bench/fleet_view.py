"""Time of a scrape of /metrics/fleet without Kafka: `python -m bench.fleet_view --clients 100000`.

Rows go through the exporter's own store, into its columns; a scrape renders all families, while
more rows are applied between two scrapes. The time does not include waiting for the end of
`entity-state`.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from contract.entity import entity_key
from contract.kinds import CLIENT, KINDS
from contract.ledger import LedgerRow, empty_ledger
from contract.row import ROW_VERSION, EntityRow, encode_row
from contract.total import TOTAL_VERSION, TotalRow, encode_total, total_key
from exporter.fleet.collector import FleetCollector
from exporter.fleet.gate import TotalsGate
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from exporter.thresholds import Thresholds
from service.config.settings import KafkaSettings
from service.metrics.exposition import render

REGIONS = [(f"region-{n // 5}", f"dc-{n}") for n in range(50)]
HEADENDS = 1_000
ROWS_BETWEEN_SCRAPES = 2_000


class Fleet:
    """A store full of rows, and the collector above it."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self._random = random.Random(1)
        self._offset = 0
        self.store = StateStore([0], defer_rendering=True)
        ledgers: dict[int, LedgerRow] = {0: empty_ledger()}
        source = SourceLagMonitor(KafkaSettings(kafka_bootstrap_servers="-:1"), "-", ledgers)
        source.update({0: 0})
        self.registry = CollectorRegistry()
        self.registry.register(
            FleetCollector(
                self.store.totals,
                {name: self.store.table(name).columns for name in KINDS},
                {"client": Thresholds(300, 900), "headend": Thresholds(120, 300)},
                TotalsGate(ledgers, source),
                None,
                shows_never=False,
            )
        )

    def client(self, number: int) -> None:
        labels = {
            "name": f"client {number}",
            "type": CLIENT.types[number % 3],
            "headless": "true" if number % 2 else "false",
        }
        metrics = {metric.field: number for metric in CLIENT.metrics}
        self._apply("client", f"c-{number}", labels, metrics)

    def headend(self, number: int) -> None:
        region, datacenter = REGIONS[number % len(REGIONS)]
        labels = {"name": f"h-{number}", "region": region, "datacenter": datacenter}
        fields = (metric.field for metric in KINDS["headend"].metrics)
        self._apply("headend", f"h-{number}", labels, dict.fromkeys(fields, number))

    def total(self, type: str, headless: str) -> None:
        group = (type, headless)
        values: dict[str, int | float] = {metric.field: 10**15 for metric in CLIENT.counters}
        row = TotalRow(TOTAL_VERSION, 1, 0, "client", group, 1, values)
        self.store.apply(0, total_key(0, "client", group), encode_total(row))

    def _apply(self, kind: str, id: str, labels: dict[str, str], values: Mapping[str, int]) -> None:
        self._offset += 1
        checked_in = time.time() - self._random.expovariate(1 / 200)
        row = EntityRow(ROW_VERSION, self._offset, 0, 1, 0, checked_in, labels, {**values})
        self.store.apply(0, entity_key(kind, id), encode_row(row))


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(1e3 * statistics.median(seconds), 2),
        "p95": round(1e3 * statistics.quantiles(seconds, n=20)[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--scrapes", type=int, default=100)
    wanted = parser.parse_args()
    fleet = Fleet(wanted.clients)
    for number in range(wanted.clients):
        fleet.client(number)
    for number in range(HEADENDS):
        fleet.headend(number)
    for type in CLIENT.types:
        for headless in ("true", "false"):
            fleet.total(type, headless)
    seconds, cpu, body = [], [], b""
    for scrape in range(wanted.scrapes):
        for number in range(ROWS_BETWEEN_SCRAPES):
            fleet.client((scrape * ROWS_BETWEEN_SCRAPES + number) % wanted.clients)
        begun, begun_cpu = time.perf_counter(), time.thread_time()
        body = render(False, (fleet.registry,))
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.thread_time() - begun_cpu)
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    of_clients = sum(line.startswith(b"tobogganing_fleet_client") for line in body.splitlines())
    print(
        json.dumps(
            {
                "clients": wanted.clients,
                "headends": HEADENDS,
                "headend_groups": len(REGIONS),
                "series": series,
                "series_of_clients": of_clients,
                "scrape_ms": _percentiles(seconds),
                "scrape_cpu_ms": _percentiles(cpu),
            }
        )
    )


if __name__ == "__main__":
    main()
