"""Everything at once, at a steady rate: how old is what a scrape shows, and does memory stay flat.

Freshness is the time from a batch's answer to the last byte of a scrape that shows all of it. A
scrape begins each second, also while one before it lasts: else the worst moments would count once.
Every scrape is looked into; at the end everything is compared: topics, ledger, every sample of
every client.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.load import split_answer
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter
from bench.rounds import Measurements, percentile
from bench.running_stack import RunningStack, running_stack
from bench.scraping import find_values
from bench.workloads import BATCH, BatchWorkload
from contract.position import Receipt
from service.tasks import first_error
from tobogganing.devstack.ports import LOOPBACK

SUBJECT = "End to end"
CHANNELS = 16
EVERY = 1.0
"""Seconds from one scrape's begin to the next one's, where Prometheus makes four a minute."""
AT_ONCE = 3
"""Scrapes at a time: the exporter cuts off who is slow of more than four."""
LOOKED_AT = 5
"""Clients of a batch that each scrape is searched for."""


@dataclass(frozen=True)
class _Acknowledgement:
    first: int
    receipts: Sequence[Receipt]
    at: float


class Channel:
    """One connection that asks one thing at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        data = b""
        while (answer := split_answer(data)) is None:
            more = await self._reader.read(2**20)
            if not more:
                raise WrongResultError("a connection broke before its answer was there")
            data += more
        return answer

    def close(self) -> None:
        self._writer.close()


class Run:
    """One run at a rate, in submissions a second."""

    def __init__(self, everything: RunningStack, clients: Clients, rate: int, seconds: int) -> None:
        self.everything = everything
        self.clients = clients
        self.batches = rate * seconds // BATCH
        self.interval = BATCH / rate
        self.freshness: list[float] = []
        self.answers: list[float] = []
        self.memory: list[dict[str, float]] = []
        self._newest: _Acknowledgement | None = None
        self._over = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._work = BatchWorkload(
            everything.acknowledged, clients, self.batches * BATCH, everything.relay_key
        )

    async def run(self) -> float:
        """Send everything; return the seconds that it took."""
        channels: asyncio.Queue[Channel] = asyncio.Queue()
        opened = [Channel(self.everything.gateway.port) for _ in range(CHANNELS)]
        for channel in opened:
            await channel.open()
            channels.put_nowait(channel)
        began = time.perf_counter()
        try:
            with first_error(WrongResultError):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._scrape())
                    weighing = tasks.create_task(self._weigh())
                    async with asyncio.TaskGroup() as sending:
                        for number in range(self.batches):
                            due = began + number * self.interval
                            await asyncio.sleep(due - time.perf_counter())
                            channel = await channels.get()
                            sending.create_task(self._send(channel, channels))
                    seconds = time.perf_counter() - began
                    weighing.cancel()
                    self._over.set()
        finally:
            for channel in opened:
                channel.close()
        return seconds

    async def _send(self, channel: Channel, channels: asyncio.Queue[Channel]) -> None:
        request = self._work.next()
        assert request is not None
        first, content = request
        began = time.perf_counter()
        status, body = await channel.ask(content)
        now = time.perf_counter()
        channels.put_nowait(channel)
        self.answers.append(now - began)
        receipts = self.everything.note_batch(self._work.receipts(first, status, body), first)
        self._newest = _Acknowledgement(first, receipts, now)

    async def _scrape(self) -> None:
        """Scrape on time until all was sent, and then what has begun to its end."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as scrapes:
            for number in itertools.count(1):
                with contextlib.suppress(TimeoutError):
                    pause = began + number * EVERY - time.perf_counter()
                    await asyncio.wait_for(self._over.wait(), pause)
                batch, self._newest = self._newest, None
                if batch is not None:
                    scrapes.create_task(self._look(batch))
                if self._over.is_set():
                    return

    async def _look(self, batch: _Acknowledgement) -> None:
        """Wait for a scrape that shows a batch, and see whether it does."""
        async with self._places:
            page = await self.everything.packed_scrape(batch.receipts)
        self.freshness.append(page.ended - batch.at)
        least = {
            b'tobogganing_client_bytes_sent{client_id="%b"'
            % self.clients.id(number).encode(): self.clients.metrics(number)["bytes_sent"]
            for number in range(batch.first, batch.first + BATCH, BATCH // LOOKED_AT)
        }
        shown = await asyncio.to_thread(find_values, page.body, list(least))
        for start, value in least.items():
            if shown.get(start, -1.0) < value:
                raise WrongResultError(
                    f"a scrape shows {shown.get(start)} for {start!r}, but {value} was answered"
                )

    async def _weigh(self) -> None:
        while True:
            self.memory.append(self.everything.memory())
            await asyncio.sleep(1)


def growth(memory: Sequence[dict[str, float]]) -> dict[str, float]:
    """How many times the memory of each process grew from the second quarter to the last."""
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
    """Run the pipeline at a rate, or as near to it as this machine comes.

    Raises:
        WrongResultError: anything was lost or wrong.
    """
    async with running_stack(pipeline, clients) as everything:
        warm = Run(everything, clients, rate, -(-clients.size // rate) or 1)
        await warm.run()
        run = Run(everything, clients, rate, seconds)
        meter = Meter(everything.pids)
        taken = await run.run()
        used = meter.read()
        sent = run.batches * BATCH
        last = everything.acknowledged.next
        await everything.check(clients, latest(clients, last))
    fresh, answers = sorted(run.freshness), sorted(run.answers)
    figures = Measurements(SUBJECT, "Tobogganing", f"{rate:,} a second, {clients.size:,} clients")
    figures.add(
        **{f"cpu {name}": spent / sent * 1e6 for name, spent in used.cpu.items()},
        **{f"MB {name}": value for name, value in run.memory[-1].items()},
    )
    grown = growth(run.memory)
    del grown["Kafka"]  # its heap grows up to a limit that is set
    figures.add(**{"memory, last quarter to second": max(grown.values())})
    figures.add(
        **{
            "per second": sent / taken,
            "asked to reached": rate * taken / sent,
            "answer p50 ms": percentile(answers, 0.5) * 1e3,
            "answer p99 ms": percentile(answers, 0.99) * 1e3,
            "fresh p50 ms": percentile(fresh, 0.5) * 1e3,
            "fresh p99 ms": percentile(fresh, 0.99) * 1e3,
            "scrapes": len(fresh),
            "submissions": everything.sent,
        }
    )
    return figures


def latest(clients: Clients, end: int) -> list[int]:
    """Number of the last submission of each client, of those before `end`."""
    return [end - 1 - (end - 1 - client) % clients.size for client in range(clients.size)]
