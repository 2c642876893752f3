"""`python -m bench.processor`: what a submission costs the processor, on a real broker.

Frames are written to Kafka first, then real workers go through them, so that a worker always has
something to do. One JSON object on standard output says what it cost. Every row and every ledger
is compared with a model afterwards; if anything is lost or wrong, the exit status is 1 and there
are no figures.
"""

import asyncio
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import click
import httpx

from bench.errors import WrongResultError
from bench.logs import quiet
from bench.processor_load import FrameLoad
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics
from tobogganing.devstack import process
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import install_kafka
from tobogganing.devstack.ports import free_ports

TOKEN = "metrics-token-of-the-benchmark"
POLL = 0.25
"""Seconds between two looks: each costs a worker some milliseconds."""
PATIENCE = 600.0
_SUBMISSIONS = re.compile(r"^tobogganing_processor_batch_submissions_sum (\S+)", re.MULTILINE)
_BATCHES = re.compile(r"^tobogganing_processor_batch_submissions_count (\S+)", re.MULTILINE)
_PARTITIONS = re.compile(r"^tobogganing_processor_partitions (\S+)", re.MULTILINE)


class MeasuredWorker:
    """One processor in a process of its own; an async context manager."""

    def __init__(self, number: int, kafka: KafkaSettings, folder: Path) -> None:
        self._port = free_ports(1)[0]
        self._log = folder / f"worker-{number}-{self._port}.log"
        self._environ = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": kafka.kafka_topic_prefix,
            "KAFKA_PARTITIONS": str(kafka.kafka_partitions),
            "METRICS_TOKEN": TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "LOG_FORMAT": "json",
            "WORKER_NAME": f"bench-{number}",
        }

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "processor"]
            self._process = process.start(command, environ=self._environ, output=log)
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}",
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=30,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await process.stop(self._process, patience=10)
        await self._http.aclose()
        if error is not None:
            error.add_note(f"the worker's log ends with:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End it as a fault would."""
        self._process.kill()
        self._process.wait()

    async def owns(self, partitions: int) -> None:
        """Wait until it has so many partitions and their rows."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                if await self._figure(_PARTITIONS) == partitions:
                    return
            self._check_alive()
            await asyncio.sleep(POLL)

    async def measure(self) -> "WorkerSample":
        """Read what it has done so far, and at what cost."""
        self._check_alive()
        text = (await self._http.get("/metrics")).text
        submissions, batches = _found(_SUBMISSIONS, text), _found(_BATCHES, text)
        cpu, resident = _cost(self._process.pid)
        return WorkerSample(time.monotonic(), cpu, submissions, batches, resident)

    async def _figure(self, pattern: re.Pattern[str]) -> float:
        return _found(pattern, (await self._http.get("/metrics")).text)

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise WrongResultError(f"the worker ended with {self._process.returncode}")


class WorkerSample(NamedTuple):
    """What a worker had done at a time: CPU in seconds, memory in bytes."""

    time: float
    cpu: float
    submissions: float
    batches: float
    resident: int


def _cost(pid: int) -> tuple[float, int]:
    """CPU (user and system, in seconds) and resident memory (in bytes) of a process."""
    folder = Path("/proc", str(pid))
    stat = folder.joinpath("stat").read_text().rpartition(")")[2].split()
    pages = int(folder.joinpath("statm").read_text().split()[1])
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, pages * os.sysconf("SC_PAGE_SIZE")


def _found(pattern: re.Pattern[str], text: str) -> float:
    match = pattern.search(text)
    return 0.0 if match is None else float(match[1])


@contextlib.asynccontextmanager
async def _workers(
    number: int, kafka: KafkaSettings, folder: Path
) -> AsyncIterator[list[MeasuredWorker]]:
    """Start workers and wait until each has its share of the partitions."""
    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(MeasuredWorker(each, kafka, folder))
            for each in range(number)
        ]
        async with asyncio.timeout(PATIENCE):
            for each in workers:
                await each.owns(kafka.kafka_partitions // number)
        yield workers


async def until_done(workers: Sequence[MeasuredWorker], submissions: float) -> list[WorkerSample]:
    """Wait until the workers have gone through so many submissions in all."""
    async with asyncio.timeout(PATIENCE):
        while True:
            samples = [await worker.measure() for worker in workers]
            if sum(sample.submissions for sample in samples) >= submissions:
                return samples
            await asyncio.sleep(POLL)


async def run(
    kafka: KafkaSettings, folder: Path, *, entities: int, submissions: int, size: int, workers: int
) -> dict[str, Any]:
    """Measure workers over `submissions` in frames of `size`, of entities that all have a row.

    Raises:
        WrongResultError: a row or a ledger is not what it must be.
    """
    await ensure_topics(kafka)
    load = FrameLoad(kafka, entities, size)
    await load.write(entities)
    async with _workers(1, kafka, folder) as alone:
        await until_done(alone, load.submissions)
    before = load.submissions
    await load.write(submissions)
    async with _workers(workers, kafka, folder) as running:
        first = [await worker.measure() for worker in running]
        last = await until_done(running, load.submissions - before)
    await load.check()
    done = sum(b.submissions - a.submissions for a, b in zip(first, last, strict=True))
    cpu = sum(b.cpu - a.cpu for a, b in zip(first, last, strict=True))
    seconds = last[0].time - first[0].time
    batches = sum(b.batches - a.batches for a, b in zip(first, last, strict=True))
    return {
        "workers": workers,
        "partitions": kafka.kafka_partitions,
        "entities": entities,
        "frame": size,
        "submissions": round(done),
        "cpu_us_per_submission": round(cpu / done * 1e6, 2),
        "submissions_per_second": round(done / seconds),
        "cores": round(cpu / seconds, 2),
        "submissions_per_batch": round(done / batches),
        "resident_mib": [round(sample.resident / 2**20) for sample in last],
        "rows_and_ledgers_verified": len(load.rows) + len(load.ledgers),
    }


async def _main(options: dict[str, Any], partitions: int, repeat: int) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-processor-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "kafka", install_kafka())
        await cluster.start()
        try:
            for _ in range(repeat):
                kafka = KafkaSettings(
                    kafka_bootstrap_servers=cluster.bootstrap_servers,
                    kafka_topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.",
                    kafka_partitions=partitions,
                )
                results.append(await run(kafka, folder, **options))
        finally:
            await cluster.stop()
    return results


@click.command()
@click.option("--workers", default=1, show_default=True, help="Processes that share the work.")
@click.option("--entities", default=200_000, show_default=True, help="Distinct entities.")
@click.option("--submissions", default=1_000_000, show_default=True, help="Submissions measured.")
@click.option("--frame", "size", default=50, show_default=True, help="Submissions in a frame.")
@click.option("--partitions", default=4, show_default=True, help="Partitions of the topics.")
@click.option("--repeat", default=1, show_default=True, help="Runs; the figures are of the median.")
def main(partitions: int, repeat: int, **options: Any) -> None:
    """Measure the processor; print one JSON object."""
    quiet()
    try:
        results = asyncio.run(_main(options, partitions, repeat))
    except WrongResultError as error:
        print(f"WRONG: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    median = statistics.median_low([each["cpu_us_per_submission"] for each in results])
    chosen = next(each for each in results if each["cpu_us_per_submission"] == median)
    chosen["all_cpu_us_per_submission"] = [each["cpu_us_per_submission"] for each in results]
    print(json.dumps(chosen))


if __name__ == "__main__":
    main()
