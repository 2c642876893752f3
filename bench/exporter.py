"""The exporter of a whole fleet: its store, catching up, and scrapes, next to other systems.

All systems hold the same clients and are scraped in turn; every sample of every body is checked.
"""

import contextlib
import gzip
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.errors import WrongResultError
from bench.fleet import Clients, write_rows
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter, cores, cpu_seconds, resident_bytes
from bench.rounds import Measurements
from bench.scraping import check_scrape, fetch
from bench.workloads import BATCH
from exporter.scrape.exposition import render_exposition
from exporter.state.store import StateStore

SYSTEM = "Tobogganing exporter"
PEER_ROUNDS = 1
"""Measured scrapes of a peer, after one that warms up."""
REPEATS = 5


def measure_store(clients: Clients) -> Measurements:
    """CPU time of the store alone, without Kafka and HTTP."""
    figures = Measurements("Exporter", SYSTEM, f"the store of {clients.size:,} clients")
    store = StateStore([0])
    for start in range(0, 3 * clients.size, clients.size):
        rows = [(clients.key(n), clients.row(n)) for n in clients.shuffled(start)]
        began = time.process_time()
        applied = sum([store.apply(0, key, value) for key, value in rows])
        micros = (time.process_time() - began) * 1e6 / len(rows)
        figures.add(**{"apply_again_cpu_us" if start else "apply_first_cpu_us": micros})
        if applied != clients.size:
            raise WrongResultError(f"the store applied {applied} of {clients.size} rows")
    for _ in range(REPEATS):
        began = time.process_time()
        tables = store.snapshot()
        taken = time.process_time()
        size = sum(len(piece) for steps in tables for pieces in steps for piece in pieces)
        rendered = time.process_time()
        exposition = render_exposition(store.snapshot(), b"")
        figures.add(
            snapshot_cpu_seconds=taken - began,
            render_cpu_seconds=rendered - began,
            render_and_gzip_cpu_seconds=time.process_time() - rendered,
            body_megabytes=size / 1e6,
            gzip_megabytes=exposition.compressed_size / 1e6,
        )
        if exposition.size != size:
            raise WrongResultError(f"a body of {exposition.size} bytes, rendered as {size}")
    return figures


@dataclass(frozen=True)
class _Page:
    system: str
    pid: int
    port: int
    path: str
    headers: dict[str, str]
    rounds: int
    """Measured scrapes, after one that warms up; 0 measures the first scrape."""

    @property
    def is_compressed(self) -> bool:
        return "accept-encoding" in self.headers

    async def scrape(self, clients: Clients, numbers: range) -> dict[str, float]:
        meter = Meter({"server": self.pid})
        page = await fetch(self.port, self.path, self.headers)
        _, used = meter.read()
        text = gzip.decompress(page.body) if self.is_compressed else page.body
        check_scrape(text, clients, numbers)
        return {
            "seconds": page.seconds,
            "CPU seconds": used["server"],
            "megabytes": len(page.body) / 1e6,
            "bytes a client": resident_bytes(self.pid) / clients.size,
        }


async def measure(
    pipeline: MeasuredPipeline, clients: Clients, rows: int, rounds: int, *, with_peers: bool
) -> list[Measurements]:
    """Let an exporter catch up with `rows` rows; scrape it and its peers.

    Raises:
        WrongResultError: a body is wrong.
    """
    found = [measure_store(clients)]
    kafka = await pipeline.topics()
    last = await write_rows(kafka, clients, rows)
    async with contextlib.AsyncExitStack() as stack:
        began = time.monotonic()
        exporter = await stack.enter_async_context(
            pipeline.service("exporter", kafka, core=cores()[0])
        )
        pid = exporter.pids["exporter"]
        caught_up = Measurements("Exporter", SYSTEM, f"catching up, {clients.size:,} clients")
        caught_up.add(
            rows=last.stop,
            ready_seconds=time.monotonic() - began,
            cpu_us_per_row=cpu_seconds(pid) * 1e6 / last.stop,
        )
        found.append(caught_up)
        token = pipeline.secrets.bearer("METRICS_TOKEN")
        pages = [
            _Page(SYSTEM, pid, exporter.port, "/metrics", token | encoding, rounds)
            for encoding in ({}, {"accept-encoding": "gzip"})
        ]
        if with_peers:
            pages += await _peer_pages(pipeline, clients, stack)
        size = f"{clients.size:,} clients"
        scrapes = [
            Measurements("Scrape", page.system, f"{size}, gzip" if page.is_compressed else size)
            for page in pages
        ]
        for number in range(rounds + 1):
            for page, figures in zip(pages, scrapes, strict=True):
                if number > page.rounds:
                    continue
                numbers = last if page.system == SYSTEM else range(clients.size)
                values = await page.scrape(clients, numbers)
                if number > 0 or not page.rounds:
                    figures.add(**values)
    return found + scrapes


async def _peer_pages(
    pipeline: MeasuredPipeline, clients: Clients, stack: contextlib.AsyncExitStack
) -> list[_Page]:
    """Start the peers, push every client to each, and return their pages."""
    folder, enter = pipeline.folder, stack.enter_async_context
    pushed = await enter(peers.pushgateway(folder, checks=False))
    await peers.fill(peers.push_target(pushed, clients, 32), clients)
    stored = await enter(peers.victoria(folder))
    await peers.fill(peers.import_target(stored, clients, 4, BATCH), clients)
    others = [(pushed, PEER_ROUNDS), (stored, PEER_ROUNDS)]
    if (program := peers.build_collector()) is not None:
        collected = await enter(peers.collector(program, folder))
        # A scrape of it takes half a minute: the measured one is the check, too.
        await peers.fill(peers.otlp_target(collected, clients, 4, BATCH), clients, check=False)
        others.append((collected, 0))
    return [
        _Page(peer.name, peer.pid, peer.page_port, peer.page, {}, rounds) for peer, rounds in others
    ]


async def scrapes(
    pipeline: MeasuredPipeline, checkouts: Iterable[Path], clients: Clients, rounds: int
) -> list[list[float]]:
    """Scrape exporters of some checkouts in turns; return their CPU seconds by round.

    Raises:
        WrongResultError: a body is wrong.
    """
    token = pipeline.secrets.bearer("METRICS_TOKEN") | {"accept-encoding": "gzip"}
    async with contextlib.AsyncExitStack() as stack:
        pages = []
        for checkout in checkouts:
            kafka = await pipeline.topics()
            last = await write_rows(kafka, clients, clients.size)
            exporter = await stack.enter_async_context(
                pipeline.service("exporter", kafka, core=cores()[0], PYTHONPATH=str(checkout))
            )
            pid = exporter.pids["exporter"]
            pages.append(_Page(SYSTEM, pid, exporter.port, "/metrics", token, rounds))
        found: list[list[float]] = [[] for _ in pages]
        for number in range(rounds + 1):
            for page, values in zip(pages, found, strict=True):
                figures = await page.scrape(clients, last)
                if number:
                    values.append(figures["CPU seconds"])
    return found
