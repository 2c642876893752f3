"""`python -m bench.open_loop`: what a submission costs all parts where clients post one by one.

Requests start on a clock, not when the last one ends, as those of a fleet do. With `--against` the
same is measured of an earlier commit, in turns, so that a noisy machine disturbs both alike.
"""

import asyncio
import contextlib
import json
import logging
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import httpx
import structlog
import uvloop

from bench.edge import RunningEdge, running_edge
from bench.errors import WrongResultError
from bench.fleet import Clients, register
from bench.load import PATIENCE, Address
from bench.open_loop_driver import (
    BASELINE,
    CLIENTS,
    EDGE,
    LOADS,
    SETTLE,
    SUBJECT,
    WARM_UP,
    Load,
    OpenLoop,
)
from bench.open_loop_peers import measure_peers
from bench.pipeline import MeasuredPipeline, MeasuredService, pipeline
from bench.processes import Meter, cores, pinned
from bench.rounds import CPU, IDLE, Measurements, percentile
from bench.workloads import request_heads
from tobogganing.devstack.ports import LOOPBACK
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.errors import LocalError

PARTITIONS = 12
FRESHNESS_EVERY = 0.2
"""Seconds between two scrapes that wait for the newest response."""
_COUNTS = re.compile(rb'^tobogganing_pipeline_(\w+)_total\{partition="\d+"\} (\S+)', re.MULTILINE)


@dataclass
class Stack:
    """A gateway, a processor and an exporter of one version, on a broker that others share."""

    version: str
    pipeline: MeasuredPipeline
    services: dict[str, MeasuredService]
    clients: Clients
    heads: list[bytes]
    edge: RunningEdge
    sent: int = 0
    receipts: set[str] = field(default_factory=set)
    newest: str | None = None
    """Receipt of the newest response that nobody has waited for."""

    def pids(self, load: Load) -> dict[str, int]:
        found = {name: pid for each in self.services.values() for name, pid in each.pids.items()}
        return found | self.pipeline.broker | ({EDGE: self.edge.pid} if load.edge else {})

    def address(self, edge: bool) -> Address:
        if edge:
            return self.edge.address
        return Address(LOOPBACK, self.services["gateway"].port)

    def request(self, number: int) -> bytes:
        return self.heads[number % CLIENTS] + self.clients.body(number)

    def responded(self, number: int, status: int, body: bytes) -> None:
        if status != 200:
            raise WrongResultError(f"a submission was answered {status}: {body[:300]!r}")
        self.newest = json.loads(body)["receipt"]
        self.receipts.add(self.newest)

    def scrape_url(self, *receipts: str) -> str:
        query = "&".join(f"after={receipt}" for receipt in receipts)
        return f"{self.services['exporter'].url}/metrics?{query}"

    async def check(self, http: httpx.AsyncClient) -> None:
        """Compare the counts with what was confirmed: each submission was applied, once.

        Raises:
            WrongResultError: they differ.
        """
        if len(self.receipts) != self.sent:
            raise WrongResultError("a receipt was issued twice")
        counts: dict[str, int] = {}
        deadline = time.monotonic() + PATIENCE
        while counts.get("read") != self.sent and time.monotonic() < deadline:
            page = await http.get(self.scrape_url())
            counts = {}
            for name, value in _COUNTS.findall(page.content):
                counts[name.decode()] = counts.get(name.decode(), 0) + int(float(value))
            await asyncio.sleep(0.1)
        if not counts.get("read") == counts.get("applied") == self.sent:
            raise WrongResultError(f"{self.sent} were confirmed, and the ledgers have {counts}")


@contextlib.asynccontextmanager
async def running_version(
    pipeline: MeasuredPipeline, version: str, checkout: Path
) -> AsyncIterator[Stack]:
    """Run all services of a checkout, with topics of their own."""
    kafka = await pipeline.topics(PARTITIONS)
    clients = Clients(CLIENTS)
    await register(kafka, clients.records())
    async with contextlib.AsyncExitStack() as stack:
        services = {
            name: await stack.enter_async_context(
                pipeline.service(
                    name, kafka, cores()[0], PYTHONPATH=str(checkout), TRUSTED_PROXIES=LOOPBACK
                )
            )
            for name in ("gateway", "processor", "exporter")
        }
        port = services["gateway"].port
        edge = await stack.enter_async_context(running_edge(pipeline.folder, port, checkout))
        yield Stack(version, pipeline, services, clients, request_heads(clients), edge)


async def _measure(stack: Stack, load: Load, seconds: float) -> dict[str, float]:
    """Measure CPU and responses, and then, with scrapes that cost CPU, freshness."""
    if not load.rate:
        meter = Meter(stack.pids(load))
        await asyncio.sleep(seconds)
        seconds, used = meter.read()
        return {f"{IDLE}{name}": cpu / seconds * 100 for name, cpu in used.items()}
    await OpenLoop(stack, load).run(1)  # what adapts to the load has done so
    loop = OpenLoop(stack, load)
    meter = Meter(stack.pids(load))
    count = await loop.run(seconds)
    cpu = {f"cpu {name}": spent / count * 1e6 for name, spent in meter.read()[1].items()}
    ordered, fresh = sorted(loop.seconds), sorted(await _freshness(stack, load, seconds / 2))
    return {
        **cpu,
        "answer p50 ms": percentile(ordered, 0.5) * 1e3,
        "answer p99 ms": percentile(ordered, 0.99) * 1e3,
        "fresh p50 ms": percentile(fresh, 0.5) * 1e3,
        "fresh p99 ms": percentile(fresh, 0.99) * 1e3,
    }


async def _freshness(stack: Stack, load: Load, seconds: float) -> list[float]:
    """Seconds from a response to the end of a scrape that shows it, under load."""
    loop = OpenLoop(stack, load)
    sending = asyncio.create_task(loop.run(seconds))
    found: list[float] = []

    async def look(http: httpx.AsyncClient, receipt: str, began: float) -> None:
        page = await http.get(stack.scrape_url(receipt))
        if page.status_code != 200:
            raise WrongResultError(f"a scrape after a receipt was answered {page.status_code}")
        found.append(time.perf_counter() - began)

    async with scraper(stack) as http, asyncio.TaskGroup() as tasks:
        while not sending.done():
            await asyncio.sleep(FRESHNESS_EVERY)
            receipt, stack.newest = stack.newest, None
            if receipt is not None:
                tasks.create_task(look(http, receipt, time.perf_counter()))
    await sending
    return found


def scraper(stack: Stack) -> httpx.AsyncClient:
    headers = stack.pipeline.secrets.bearer("METRICS_TOKEN")
    return httpx.AsyncClient(headers=headers, trust_env=False, timeout=30)


async def measure(
    folder: Path, versions: dict[str, Path], loads: Sequence[Load], seconds: float, rounds: int
) -> list[Measurements]:
    """Measure versions, by their names and checkouts, in turns.

    Raises:
        WrongResultError: a submission that was confirmed was not applied once.
    """
    found = {
        (version, load): Measurements(SUBJECT, version, load.case)
        for load in loads
        for version in versions
    }
    with pinned(cores()[1]):
        async with pipeline(folder, cores()[1]) as ours:
            for number in range(rounds + 1):
                for version, checkout in versions.items():
                    async with running_version(ours, version, checkout) as stack:
                        if number:
                            await OpenLoop(stack, Load(1000)).run(SETTLE)
                        for load in loads:
                            if number:
                                values = await _measure(stack, load, seconds)
                                found[version, load].add(**values)
                            elif load.rate:  # the broker's code is compiled as it runs
                                await OpenLoop(stack, load).run(WARM_UP)
                        async with scraper(stack) as http:
                            await stack.check(http)
    return list(found.values())


def extract(commit: str, folder: Path) -> Path:
    """Unpack the files of a commit of this checkout.

    Raises:
        LocalError: this is no git checkout, or it lacks the commit.
    """
    git = ["git", "-C", str(CHECKOUT), "archive", commit]
    try:
        archive = subprocess.run(git, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalError(f"the files of {commit} are not here: use a whole git clone") from error
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _table(found: Sequence[Measurements]) -> list[dict[str, Any]]:
    rows = []
    for each in found:
        figures = {name: round(statistics.median(v), 1) for name, v in each.figures.items()}
        total = [value for name, value in figures.items() if name.startswith((CPU, IDLE))]
        rows.append({"version": each.system, "case": each.case, "all": sum(total), **figures})
    return rows


@click.command()
@click.option("--against", default=None, help=f"Also measure this commit, e.g. {BASELINE}.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of load, a case and round.")
@click.option("--only", multiple=True, help="Only loads whose name contains this; repeatable.")
@click.option("--peers", is_flag=True, help="Also measure the peers that can be had.")
def main(
    against: str | None, rounds: int, seconds: float, only: tuple[str, ...], peers: bool
) -> None:
    """Measure; print one JSON object a line."""
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name:
        versions = {"this": CHECKOUT}
        try:
            if against is not None:
                versions[against] = extract(against, Path(name) / "against")
            loads = [load for load in LOADS if not only or any(o in load.case for o in only)]
            found = uvloop.run(measure(Path(name) / "run", versions, loads, seconds, rounds))
            if peers:
                found += uvloop.run(measure_peers(Path(name) / "peers", seconds, rounds))
        except (WrongResultError, LocalError) as error:
            print(f"WRONG: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
            raise SystemExit(1) from None
    for row in _table(found):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
