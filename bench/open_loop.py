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
from typing import Any, NamedTuple

import click
import httpx
import structlog
import uvloop

from bench.errors import WrongResultError
from bench.fleet import Clients, register
from bench.load import PATIENCE, split_response
from bench.pipeline import MeasuredPipeline, MeasuredService, pipeline
from bench.processes import Meter, cores, pinned
from bench.rounds import Measurements, percentile
from bench.workloads import request_heads
from tobogganing.devstack.ports import LOOPBACK
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.errors import LocalError

SUBJECT = "Fleet"
BASELINE = "116087e"
"""The last commit in which every submission of a fleet left by itself."""
WARM_UP = 3.0
"""Seconds of each load before the first round."""
PARTITIONS = 12
CLIENTS = 2_000
FRESHNESS_EVERY = 0.2
"""Seconds between two scrapes that wait for the newest response."""
_COUNTS = re.compile(rb'^tobogganing_pipeline_(\w+)_total\{partition="\d+"\} (\S+)', re.MULTILINE)


class Load(NamedTuple):
    """Submissions a second; with `fresh` each on a connection of its own. 0: no load."""

    rate: int
    fresh: bool = False

    @property
    def case(self) -> str:
        if not self.rate:
            return "no load"
        return f"{self.rate:,} a second, {'new' if self.fresh else 'kept'} connections"


LOADS = (Load(0), Load(100, True), Load(300), Load(300, True), Load(1000))


@dataclass
class Stack:
    """A gateway, a processor and an exporter of one version, on a broker that others share."""

    version: str
    pipeline: MeasuredPipeline
    services: dict[str, MeasuredService]
    clients: Clients
    heads: list[bytes]
    sent: int = 0
    receipts: set[str] = field(default_factory=set)

    @property
    def pids(self) -> dict[str, int]:
        found = {name: pid for each in self.services.values() for name, pid in each.pids.items()}
        return found | self.pipeline.broker

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
                pipeline.service(name, kafka, cores()[0], PYTHONPATH=str(checkout))
            )
            for name in ("gateway", "processor", "exporter")
        }
        yield Stack(version, pipeline, services, clients, request_heads(clients))


class OpenLoop:
    """Starts a request every 1/rate seconds, on an idle connection if there is one."""

    def __init__(self, stack: Stack, load: Load) -> None:
        self._stack = stack
        self._load = load
        self._idle: list[_Connection] = []
        self._left = 0
        self._done = asyncio.Event()
        self._error: str | None = None
        self.seconds: list[float] = []
        """Time of each response, from when its request was due."""
        self.newest: str | None = None
        """Receipt of the newest response that nobody has waited for."""

    async def run(self, seconds: float) -> int:
        """Send for so long; return how many were sent once all were answered.

        Raises:
            WrongResultError: a response is not as it must be, or does not come.
        """
        count = round(self._load.rate * seconds)
        self._left = count
        began = time.perf_counter()
        tasks = []
        for number in range(count):
            due = began + number / self._load.rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            request = self._request(self._stack.sent + number)
            if self._idle:
                self._idle.pop().send(request, due)
            else:
                tasks.append(asyncio.create_task(self._connect(request, due)))
            if self._error:
                break
        try:
            async with asyncio.timeout(PATIENCE):
                await self._done.wait()
        except TimeoutError:
            self._error = f"{self._left} of {count} requests were not answered"
        if self._error:
            raise WrongResultError(self._error)
        await asyncio.gather(*tasks)
        for connection in self._idle:
            connection.transport.close()
        self._stack.sent += count
        return count

    def _request(self, number: int) -> bytes:
        return self._stack.heads[number % CLIENTS] + self._stack.clients.body(number)

    async def _connect(self, request: bytes, due: float) -> None:
        port = self._stack.services["gateway"].port
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), LOOPBACK, port)
        connection.send(request, due)

    def answered(self, connection: "_Connection", status: int, body: bytes) -> None:
        self.seconds.append(time.perf_counter() - connection.due)
        if status != 200:
            self.fail(f"a submission was answered {status}: {body[:300]!r}")
            return
        self.newest = json.loads(body)["receipt"]
        self._stack.receipts.add(self.newest)
        if self._load.fresh:
            connection.transport.close()
        else:
            self._idle.append(connection)
        self._left -= 1
        if not self._left:
            self._done.set()

    def fail(self, error: str) -> None:
        self._error = error
        self._done.set()


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, loop: OpenLoop) -> None:
        self._loop = loop
        self._received = b""
        self._waits = False
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due: float) -> None:
        self.due, self._waits = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = split_response(self._received)
        if answer is not None:
            self._received, self._waits = b"", False
            self._loop.answered(self, *answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waits:
            self._loop.fail(f"a connection broke before its response: {error}")


async def _measure(stack: Stack, load: Load, seconds: float) -> dict[str, float]:
    """Measure CPU and responses, and then, with scrapes that cost CPU, freshness."""
    if not load.rate:
        meter = Meter(stack.pids)
        await asyncio.sleep(seconds)
        seconds, used = meter.read()
        return {f"% of a core {name}": cpu / seconds * 100 for name, cpu in used.items()}
    await OpenLoop(stack, load).run(1)  # what adapts to the load has done so
    loop = OpenLoop(stack, load)
    meter = Meter(stack.pids)
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
            receipt, loop.newest = loop.newest, None
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
        total = [value for name, value in figures.items() if name.startswith(("cpu ", "% "))]
        rows.append({"version": each.system, "case": each.case, "all": sum(total), **figures})
    return rows


@click.command()
@click.option("--against", default=None, help=f"Also measure this commit, e.g. {BASELINE}.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of load, a case and round.")
def main(against: str | None, rounds: int, seconds: float) -> None:
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
            found = uvloop.run(measure(Path(name) / "run", versions, LOADS, seconds, rounds))
        except (WrongResultError, LocalError) as error:
            print(f"WRONG: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
            raise SystemExit(1) from None
    for row in _table(found):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
