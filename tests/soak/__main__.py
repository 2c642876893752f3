"""`python -m tests.soak`: runs all services at a constant rate, and checks that no process grows.

SECONDS (1800) is the duration, RATE (5000) the submissions per second. After each period of a
minute, the acknowledgements are compared with topics, ledger and scrape.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.end_to_end import Run, latest
from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.pipeline import MeasuredPipeline, pipeline
from bench.processes import descriptors, resident_bytes
from bench.running_stack import RunningStack, running_stack
from tests.soak.churn import Churn
from tests.soak.flat import HEAD, SoakSample, trends

CLIENTS = 2_000
PERIOD = 60
SECOND_WORKER_EACH = 3
"""In every nth period a second worker joins and leaves."""
SAMPLE_INTERVAL = 0.5


def tell(line: str) -> None:
    print(line, flush=True)


class Soak:
    """Runs all services at a rate in submissions per second; `samples` are the measurements."""

    def __init__(self, pipeline: MeasuredPipeline, stack: RunningStack, rate: int) -> None:
        self.samples: list[SoakSample] = []
        self._pipeline = pipeline
        self._stack = stack
        self._rate = rate
        self._clients = Clients(CLIENTS)
        self._churn = Churn(stack, pipeline.secrets.bearer("ADMIN_TOKEN"))

    async def run(self, seconds: int) -> None:
        """Run for this time, with a check at the end of each period.

        Raises:
            WrongResultError: a submission was lost, or a result is wrong.
        """
        sampling = asyncio.create_task(self._sample())
        try:
            for number, begin in enumerate(range(0, seconds, PERIOD), start=1):
                with_second_worker = number % SECOND_WORKER_EACH == 0
                await self._period(min(PERIOD, seconds - begin), with_second_worker)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)

    async def _period(self, seconds: int, with_second_worker: bool) -> None:
        over = asyncio.Event()
        run = Run(self._stack, self._clients, self._rate, seconds)
        async with self._second_worker() if with_second_worker else contextlib.nullcontext():
            churning = asyncio.create_task(self._churn.run(over))
            try:
                taken = await run.run()
            finally:
                over.set()
                await churning
        last = self._stack.acknowledged.next
        await self._stack.check(self._clients, latest(self._clients, last))
        memory = ", ".join(f"{n} {mb:.0f} MB" for n, mb in self._stack.memory().items())
        tell(
            f"{self._stack.sent:,} acknowledged, shown and in the topic; "
            f"{run.batches * 500 / taken:,.0f} a second{', a second worker' * with_second_worker}; "
            f"{self._churn.clients} clients registered and removed; {memory}"
        )

    @contextlib.asynccontextmanager
    async def _second_worker(self) -> AsyncIterator[None]:
        """Run a second worker, which gets half of the partitions, during the context."""
        kafka = self._stack.kafka
        async with self._pipeline.service("processor", kafka, WORKER_NAME="guest"):
            yield

    async def _sample(self) -> None:
        began = time.monotonic()
        pids = self._stack.pids
        while True:
            memory = {name: resident_bytes(pid) / 1e6 for name, pid in pids.items()}
            files = {name: descriptors(pid) for name, pid in pids.items()}
            self.samples.append(SoakSample(time.monotonic() - began, memory, files))
            await asyncio.sleep(SAMPLE_INTERVAL)


async def soak(folder: Path, seconds: int, rate: int) -> list[SoakSample]:
    """Run all services for this time; return the measurements of each process.

    Raises:
        WrongResultError: a submission was lost, or a result is wrong.
    """
    async with pipeline(folder) as parts, running_stack(parts, Clients(CLIENTS)) as stack:
        run = Soak(parts, stack, rate)
        await run.run(seconds)
    return run.samples


def main() -> int:
    """Run; the exit status is 1 if a submission was lost, a result is wrong, or a process has
    grown."""
    seconds = int(os.environ.get("SECONDS") or 1800)
    rate = int(os.environ.get("RATE") or 5000)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            samples = asyncio.run(soak(Path(folder), seconds, rate))
        except WrongResultError as error:
            tell("\n".join([f"LOST OR WRONG: {error}", *getattr(error, "__notes__", [])]))
            return 1
    found = [*trends(samples)]
    rows = [HEAD, tuple("---" for _ in HEAD), *(trend.row() for trend in found)]
    tell("\n".join(f"| {' | '.join(row)} |" for row in rows))
    if not all(trend.is_flat for trend in found):
        tell("NOT FLAT: a process has grown")
        return 1
    tell("Nothing was lost, nothing was wrong, and stack is flat")
    return 0


if __name__ == "__main__":
    sys.exit(main())
