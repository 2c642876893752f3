"""`python -m bench.checkins [clients]`: the check-in page's lists with a million clients.

Fills the exporter's state with rows, and measures memory, the time to apply a row, and each kind of
list while rows are applied at 2,000 a second on the same event loop.
"""

import asyncio
import gc
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request

from contract.registry import RegistryState
from contract.row import ROW_VERSION, EntityRow, encode_row
from exporter.checkins import pages
from exporter.checkins.directory import Directory
from exporter.checkins.documents import items
from exporter.checkins.freshness import Freshness
from exporter.checkins.query import Query
from exporter.checkins.service import CheckinService
from exporter.checkins.views import Views
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from exporter.thresholds import Thresholds
from service.config.secrets import ReloadableTokens
from service.kafka.registry import RegistryReader
from service.kafka.tailer import TopicTailer

CLIENTS = 1_000_000
ROWS_PER_SECOND = 2000
ROUNDS = 20
APPLIED = 200_000
"""Rows that are applied with and without open pages."""
OPEN_ROUNDS = 5
PAGES, PAGE_INTERVAL = 20, 3.0
"""Open pages, and the mean seconds between two requests of each."""
THRESHOLDS = {"client": Thresholds(300, 900), "headend": Thresholds(120, 300)}
NAMES = ("Amara", "Benoit", "Chiara", "Dmitri", "Elif", "Fatima", "Grace", "Hiroshi")
LISTS = {
    "first page, worst first": [],
    "offline clients": [("state", "offline")],
    "by last check-in": [("sort", "-checkin")],
    "by name": [("sort", "name")],
    "by id": [("sort", "id")],
    "search of a name": [("q", "hiroshi's laptop 0999")],
    "search of an id": [("q", "c-0999")],
    "search without a match": [("q", "nothing")],
}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def row(number: int, offset: int) -> bytes:
    labels = {
        "name": f"{NAMES[number % 8]}'s laptop {number:07}",
        "type": ("native", "docker", "mobile")[number % 3],
        "headless": "false",
    }
    age = random.random() * 1200
    metrics: dict[str, int | float] = {"bytes_sent": number, "bytes_received": number}
    return encode_row(EntityRow(ROW_VERSION, offset, 0, 1, 1, time.time() - age, labels, metrics))


def key(number: int) -> bytes:
    return b"client:c-%07d" % number


def fill(store: StateStore, clients: int) -> tuple[float, float]:
    """Apply a row of each client; return bytes and microseconds per row."""
    gc.collect()
    before, spent = resident_bytes(), 0.0
    for start in range(0, clients, 1000):
        rows = [(key(n), row(n, 1)) for n in range(start, min(start + 1000, clients))]
        started = time.process_time()
        for each, value in rows:
            store.apply(0, each, value)
        spent += time.process_time() - started
    gc.collect()
    return (resident_bytes() - before) / clients, spent / clients * 1e6


async def apply_rows(store: StateStore, clients: int) -> None:
    """Apply rows at ROWS_PER_SECOND until cancelled."""
    offset = 2
    while True:
        for _ in range(ROWS_PER_SECOND // 20):
            number = random.randrange(clients)
            store.apply(0, key(number), row(number, offset))
        offset += 1
        await asyncio.sleep(1 / 20)


async def p95(make: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds within which 95 % of the rounds end."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await make()
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[int(ROUNDS * 0.95) - 1]


async def measure(store: StateStore, directory: Directory, clients: int) -> None:
    def views() -> Views:
        return Views(directory, RegistryState(), THRESHOLDS, time.time)  # nothing is shared

    applying = asyncio.create_task(apply_rows(store, clients))
    for name, parameters in LISTS.items():
        query = Query.parse(parameters)

        async def first_page(query: Query = query) -> None:
            view, page = await views().page(query)
            items(view, page.indexes, "client", store)

        print(f"{name}: p95 {await p95(first_page):.0f} ms")

    async def groups() -> None:
        await views().groups("client", "type")

    async def entity() -> None:
        assert directory.kinds["client"].find(key(random.randrange(clients)))

    print(f"groups by type: p95 {await p95(groups):.0f} ms")
    print(f"an entity: p95 {await p95(entity):.2f} ms")
    applying.cancel()


async def seconds_to_apply(store: StateStore, clients: int) -> float:
    """Return the seconds in which APPLIED rows are applied as fast as possible."""
    started = time.perf_counter()
    for n in range(APPLIED):
        number = random.randrange(clients)
        store.apply(0, key(number), row(number, n + 10))
        if not n % 100:
            await asyncio.sleep(0)
    return time.perf_counter() - started


async def keep_open(service: CheckinService, query: Query) -> None:
    """Read a page as an open one does, until cancelled."""
    tag = b""
    while True:
        await asyncio.sleep(random.random() * 2 * PAGE_INTERVAL)
        request = Request({"type": "http", "headers": [(b"if-none-match", tag)]})
        response = await pages.list_page(request, service, query)
        tag = response.headers["etag"].encode()


def checkin_service(store: StateStore) -> CheckinService:
    """Return an exporter's service whose data is current."""
    settings = ExporterSettings(
        kafka_bootstrap_servers="-:1", kafka_partitions=1, metrics_token=ReloadableTokens("m")
    )
    source = SourceLagMonitor(settings, "-", store.ledgers)
    tailer = TopicTailer(settings, "-", [0], lambda *_: None)
    freshness = Freshness(store.ledgers, source, tailer)
    freshness.as_of = time.time  # type: ignore[method-assign]

    async def no_reasons() -> list[str]:
        return []

    registry = RegistryReader(settings)
    return CheckinService(settings, store, registry, freshness, source, TopicTailer, no_reasons)


async def measure_open_pages(store: StateStore, clients: int) -> None:
    queries = [Query.parse(parameters) for parameters in LISTS.values()]
    service, ratios = checkin_service(store), []
    before = resident_bytes()
    for _ in range(OPEN_ROUNDS):
        alone = await seconds_to_apply(store, clients)
        open_pages = [
            asyncio.create_task(keep_open(service, queries[n % len(queries)])) for n in range(PAGES)
        ]
        ratios.append(await seconds_to_apply(store, clients) / alone)
        for page in open_pages:
            page.cancel()
    print(
        f"applying rows with {PAGES} open pages: {statistics.median(ratios):.2f} times the time "
        f"({min(ratios):.2f} to {max(ratios):.2f}); memory of a client for views: "
        f"{(resident_bytes() - before) / clients:.0f} B"
    )


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS
    store = StateStore([0])
    directory = Directory(store, RegistryState(), 1)
    memory, apply = fill(store, clients)
    print(f"memory of a client: {memory:.0f} B; applying its first row: {apply:.1f} us")
    asyncio.run(measure(store, directory, clients))
    asyncio.run(measure_open_pages(store, clients))


if __name__ == "__main__":
    main()
