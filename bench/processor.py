"""The processor: the CPU cost of a submission, and the recovery of a killed worker.

The frames are in Kafka before the workers start, so that a worker never waits for work. Afterwards
every row and ledger is compared with what was submitted.
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import RecordMetadata

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.pipeline import MeasuredPipeline, MeasuredService
from bench.processes import cpu_seconds, resident_bytes
from bench.rounds import Measurements
from contract.frame import Submission, encode_frame, partition_of
from contract.row import ledger_key
from contract.total import is_total_key
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.devstack.run_config import CHECKOUT

SYSTEM = "Tobogganing processor"
POLL = 0.25
"""Seconds between two reads of a worker's metrics; each costs it some milliseconds."""
PATIENCE = 600.0
NEVER_LATE = 2**53
IN_FLIGHT = 64
"""Frames that wait for their acknowledgement, at most."""
NOTHING = {"stale": 0, "late": 0, "dead_lettered": 0, "lost": 0, "parted": 0}
"""The other counts of a ledger."""
RECOVERY_FRAME = 50
RECOVERY_SUBMISSIONS = 10_000
"""Submissions appended while the killed worker is down."""


class FrameLoad:
    """Submissions of all clients in random order, in frames of `size`, and their expected rows."""

    def __init__(self, settings: KafkaSettings, clients: Clients, size: int) -> None:
        self.submissions = 0
        """Submissions in Kafka."""
        self._settings, self._clients, self._size = settings, clients, size
        self._last: dict[bytes, int] = {}
        """The number of each client's last submission."""
        self._read: Counter[int] = Counter()
        self._ends: dict[int, int] = {}

    async def write(self, submissions: int) -> None:
        """Append this many submissions."""
        topic = topics_from(self._settings).submissions.name
        options = client_options(self._settings)
        producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            waiting = []
            for partition, members in self._frames(submissions):
                frame = encode_frame(NEVER_LATE, members)
                waiting.append(await producer.send(topic, frame, partition=partition))
                self._read[partition] += len(members)
                if len(waiting) == IN_FLIGHT:
                    self._acknowledged(await asyncio.gather(*waiting))
                    waiting.clear()
            self._acknowledged(await asyncio.gather(*waiting))
        finally:
            await producer.stop()
        self.submissions += submissions

    def _acknowledged(self, records: Iterable[RecordMetadata]) -> None:
        for record in records:
            end = max(self._ends.get(record.partition, -1), record.offset)
            self._ends[record.partition] = end

    def _frames(self, submissions: int) -> Iterator[tuple[int, list[Submission]]]:
        """Frames with their partitions; the last ones may be smaller."""
        first = -(-self.submissions // self._clients.size) * self._clients.size
        starts = range(first, first + submissions, self._clients.size)
        numbers = chain.from_iterable(map(self._clients.shuffled, starts))
        incomplete: dict[int, list[Submission]] = {}
        for number in islice(numbers, submissions):
            key = self._clients.key(number)
            self._last[key] = number
            partition = partition_of(key, self._settings.kafka_partitions)
            members = incomplete.setdefault(partition, [])
            members.append(self._clients.submission(number))
            if len(members) == self._size:
                yield partition, incomplete.pop(partition)
        yield from incomplete.items()

    async def check(self, nothing: Mapping[str, int] = NOTHING) -> int:
        """Compare entity-state with the expected result; return the number of rows and ledgers.

        `nothing` has the ledgers' counts that must be 0.

        Raises:
            WrongResultError: a row or ledger is missing, unexpected or wrong.
        """
        found: dict[bytes, bytes | None] = {}

        def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
            rows = (each for each in records if not is_total_key(each.key))
            found.update((record.key, record.value) for record in rows)

        topic = topics_from(self._settings).entity_state.name
        partitions = range(self._settings.kafka_partitions)
        async with TopicReader(self._settings, topic, partitions) as reader:
            await reader.read_to_end(collect, {})
        decoded = {key: msgspec.json.decode(value) if value else {} for key, value in found.items()}
        for partition, read in self._read.items():
            expected = {"offset": self._ends[partition], "read": read, "applied": read}
            self._compare(
                decoded.pop(ledger_key(partition), {}), {**expected, **nothing}, partition
            )
        for key, number in self._last.items():
            metrics, labels = self._clients.metrics(number), self._clients.labels(number)
            self._compare(decoded.pop(key, {}), {"metrics": metrics, "labels": labels}, key)
        if decoded:
            raise WrongResultError(f"{len(decoded)} unexpected records, e.g. {decoded.popitem()}")
        return len(self._read) + len(self._last)

    @staticmethod
    def _compare(found: dict[str, Any], expected: dict[str, Any], key: object) -> None:
        if {name: found.get(name) for name in expected} != expected:
            raise WrongResultError(f"{key!r}: expected {expected}, found {found}")


class WorkerSample(NamedTuple):
    """The state of a worker at a time: CPU in seconds, resident memory in bytes."""

    time: float
    cpu: float
    submissions: float
    partitions: float
    resident: int


class MeasuredWorker:
    """Reads the metrics of a running processor."""

    def __init__(self, service: MeasuredService, token: dict[str, str]) -> None:
        self.pid = service.pids["processor"]
        self._url, self._token = f"{service.url}/metrics", token

    async def sample(self) -> WorkerSample:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            text = (await http.get(self._url, headers=self._token)).text
        return WorkerSample(
            time.monotonic(),
            cpu_seconds(self.pid),
            _value("tobogganing_processor_batch_submissions_sum", text),
            _value("tobogganing_processor_partitions", text),
            resident_bytes(self.pid),
        )


def _value(name: str, text: str) -> float:
    match = re.search(rf"^{name} (\S+)", text, re.MULTILINE)
    return 0.0 if match is None else float(match[1])


async def _run_workers(
    pipeline: MeasuredPipeline,
    kafka: KafkaSettings,
    number: int,
    submissions: int,
    checkout: Path,
) -> tuple[list[WorkerSample], list[WorkerSample]]:
    """Let workers process all submissions; return their samples before and after.

    The first samples are from when each worker has its share of the partitions.
    """
    token = pipeline.secrets.bearer("METRICS_TOKEN")
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        workers = []
        for each in range(number):
            name = f"bench-{each}"
            service = pipeline.service(
                "processor", kafka, WORKER_NAME=name, PYTHONPATH=str(checkout)
            )
            workers.append(MeasuredWorker(await stack.enter_async_context(service), token))
        share = kafka.kafka_partitions // number
        while True:
            first = [await worker.sample() for worker in workers]
            if all(sample.partitions == share for sample in first):
                break
            await asyncio.sleep(POLL)
        while True:
            last = [await worker.sample() for worker in workers]
            if sum(sample.submissions for sample in last) >= submissions:
                return first, last
            await asyncio.sleep(POLL)


class ProcessorCase(NamedTuple):
    """One measurement of `workers` workers over `submissions` in frames of `frame`."""

    workers: int
    frame: int
    entities: int
    submissions: int


async def measure(
    pipeline: MeasuredPipeline,
    case: ProcessorCase,
    checkout: Path = CHECKOUT,
    nothing: Mapping[str, int] = NOTHING,
) -> Measurements:
    """Measure workers of a checkout; every entity has a row before.

    Raises:
        WrongResultError: a row or a ledger is wrong.
    """
    kafka = await pipeline.topics()
    load = FrameLoad(kafka, Clients(case.entities), case.frame)
    await load.write(case.entities)
    await _run_workers(pipeline, kafka, 1, load.submissions, checkout)
    before = load.submissions
    await load.write(case.submissions)
    submissions = load.submissions - before
    first, last = await _run_workers(pipeline, kafka, case.workers, submissions, checkout)
    await load.check(nothing)
    done = sum(b.submissions - a.submissions for a, b in zip(first, last, strict=True))
    cpu = sum(b.cpu - a.cpu for a, b in zip(first, last, strict=True))
    plural = "s" if case.workers > 1 else ""
    figures = Measurements(
        "Processor",
        SYSTEM,
        f"{case.workers} worker{plural}, frames of {case.frame}, {case.entities:,} entities",
    )
    figures.add(
        **{
            "cpu processor": cpu / done * 1e6,
            "per second": done / (last[0].time - first[0].time),
            "MiB": max(sample.resident for sample in last) / 2**20,
            "submissions": done,
        }
    )
    return figures


async def measure_recovery(pipeline: MeasuredPipeline, rows: int) -> Measurements:
    """Kill a worker that has a row of each of `rows` entities, and start it again.

    Raises:
        WrongResultError: a row or a ledger is wrong.
    """
    kafka, token = await pipeline.topics(), pipeline.secrets.bearer("METRICS_TOKEN")
    load = FrameLoad(kafka, Clients(rows), RECOVERY_FRAME)
    await load.write(rows)
    async with pipeline.service("processor", kafka) as service:
        worker = MeasuredWorker(service, token)
        async with asyncio.timeout(PATIENCE):
            while (await worker.sample()).submissions < rows:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        os.kill(worker.pid, signal.SIGKILL)
    await load.write(RECOVERY_SUBMISSIONS)
    began = time.monotonic()
    async with pipeline.service("processor", kafka) as service, asyncio.timeout(PATIENCE):
        loaded = time.monotonic()
        worker = MeasuredWorker(service, token)
        while (sample := await worker.sample()).submissions < RECOVERY_SUBMISSIONS:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
    figures = Measurements("Recovery", SYSTEM, f"killed, {rows:,} rows")
    figures.add(
        rows=rows,
        loaded_seconds=loaded - began,
        back_seconds=sample.time - began,
        cpu_seconds=sample.cpu,
        resident_mib=sample.resident / 2**20,
        rows_and_ledgers_verified=await load.check(),
    )
    return figures
