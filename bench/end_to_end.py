"""The whole pipeline at a steady rate: freshness of scrapes, and whether memory stays flat.

Freshness is the time from a batch's response to the last byte of a scrape that includes it. A
scrape starts every second, also while an earlier one runs: otherwise slow moments would count once.
Every scrape is searched for clients of its batch; at the end everything is compared.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Sequence

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.load import Address, Driver
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter
from bench.rounds import Measurements, percentile
from bench.running_stack import RunningStack, StackWorkload, running_stack
from bench.scraping import find_values
from bench.workloads import BATCH
from contract.position import Receipt
from tobogganing.devstack.ports import LOOPBACK
from tools.first_error import first_error

SUBJECT = "End to end"
CONNECTIONS = 16
SCRAPE_INTERVAL = 1.0
"""Seconds from the start of one scrape to the next; Prometheus scrapes four times a minute."""
CONCURRENT_SCRAPES = 3
"""The exporter disconnects slow readers if there are more than four."""
SEARCHED = 5
"""Clients of a batch that are searched for in a scrape."""


class Run:
    """One run at a rate, in submissions a second."""

    def __init__(self, stack: RunningStack, clients: Clients, rate: int, seconds: int) -> None:
        self.batches = rate * seconds // BATCH
        self.freshness: list[float] = []
        self.memory: list[dict[str, float]] = []
        self._stack = stack
        self._clients = clients
        self._work = StackWorkload(stack, clients, self.batches * BATCH)
        address = Address(LOOPBACK, stack.gateway.port)
        self._driver = Driver(address, self._work, CONNECTIONS, interval=BATCH / rate)
        self._sent = asyncio.Event()
        self._scrapes = asyncio.Semaphore(CONCURRENT_SCRAPES)

    @property
    def response_times(self) -> list[float]:
        return self._driver.seconds

    async def run(self) -> float:
        """Send everything; return the seconds that it took."""
        began = time.perf_counter()
        with first_error(WrongResultError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._scrape())
                sampling = tasks.create_task(self._sample_memory())
                await self._driver.run()
                seconds = time.perf_counter() - began
                sampling.cancel()
                self._sent.set()
        return seconds

    async def _scrape(self) -> None:
        """Start scrapes on time until everything is sent; return when all have ended."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as scrapes:
            for number in itertools.count(1):
                with contextlib.suppress(TimeoutError):
                    pause = began + number * SCRAPE_INTERVAL - time.perf_counter()
                    await asyncio.wait_for(self._sent.wait(), pause)
                batch, self._work.newest = self._work.newest, None
                if batch is not None:
                    scrapes.create_task(self._scrape_after(*batch))
                if self._sent.is_set():
                    return

    async def _scrape_after(self, first: int, receipts: Sequence[Receipt], at: float) -> None:
        async with self._scrapes:
            page = await self._stack.compressed_scrape(receipts)
        self.freshness.append(page.ended - at)
        least = {
            b'tobogganing_client_bytes_sent{client_id="%b"'
            % self._clients.id(number).encode(): self._clients.metrics(number)["bytes_sent"]
            for number in range(first, first + BATCH, BATCH // SEARCHED)
        }
        shown = await asyncio.to_thread(find_values, page.body, list(least))
        for start, value in least.items():
            if shown.get(start, -1.0) < value:
                raise WrongResultError(
                    f"a scrape shows {shown.get(start)} for {start!r} after {value} was accepted"
                )

    async def _sample_memory(self) -> None:
        while True:
            self.memory.append(self._stack.memory())
            await asyncio.sleep(1)


def growth(memory: Sequence[dict[str, float]]) -> dict[str, float]:
    """The factor by which each process's memory grew from the second quarter to the last."""
    quarter = max(1, len(memory) // 4)
    second, last = memory[quarter : 2 * quarter] or memory, memory[-quarter:]
    return {
        name: statistics.median(each[name] for each in last)
        / statistics.median(each[name] for each in second)
        for name in memory[0]
    }


async def measure(
    pipeline: MeasuredPipeline, clients: Clients, rate: int, seconds: int
) -> Measurements:
    """Run the pipeline at a rate, or at the highest one that this machine reaches.

    Raises:
        WrongResultError: something was lost or is wrong.
    """
    async with running_stack(pipeline, clients) as stack:
        await Run(stack, clients, rate, -(-clients.size // rate) or 1).run()  # warms up
        run = Run(stack, clients, rate, seconds)
        meter = Meter(stack.pids)
        taken = await run.run()
        _, used = meter.read()
        await stack.check(clients, latest(clients, stack.acknowledged.next))
    sent = run.batches * BATCH
    fresh, responses = sorted(run.freshness), sorted(run.response_times)
    figures = Measurements(SUBJECT, "Tobogganing", f"{rate:,} a second, {clients.size:,} clients")
    grown = growth(run.memory)
    del grown["Kafka"]  # its heap grows up to a configured limit
    figures.add(
        **{f"cpu {name}": spent / sent * 1e6 for name, spent in used.items()},
        **{f"MB {name}": value for name, value in run.memory[-1].items()},
        **{
            "memory, last quarter to second": max(grown.values()),
            "per second": sent / taken,
            "asked to reached": rate * taken / sent,
            "answer p50 ms": percentile(responses, 0.5) * 1e3,
            "answer p99 ms": percentile(responses, 0.99) * 1e3,
            "fresh p50 ms": percentile(fresh, 0.5) * 1e3,
            "fresh p99 ms": percentile(fresh, 0.99) * 1e3,
            "scrapes": len(fresh),
            "submissions": stack.sent,
        },
    )
    return figures


def latest(clients: Clients, end: int) -> list[int]:
    """The number of each client's last submission before number `end`."""
    return [end - 1 - (end - 1 - client) % clients.size for client in range(clients.size)]
