"""The processor: the CPU cost of a submission, and the recovery of a killed worker.

The frames are in Kafka before the workers start, so that a worker never waits for work. Every row
and ledger is compared with a model afterwards. The model is separate from the processor's reducers:
a reducer that is fast and wrong would agree with itself.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import RecordMetadata

from bench.errors import WrongResultError
from bench.pipeline import MeasuredPipeline, MeasuredService
from bench.processes import cpu_seconds, resident_bytes
from bench.rounds import Measurements
from contract.frame import Submission, encode_frame, entity_key, partition_of
from contract.kinds import CLIENT
from contract.row import is_ledger_key
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from

SYSTEM = "Tobogganing processor"
POLL = 0.25
"""Seconds between two reads of a worker's metrics; each costs it some milliseconds."""
PATIENCE = 600.0
NEVER_LATE = 2**53
IN_FLIGHT = 64
"""Frames that wait for their acknowledgement, at most."""
PARTIAL = 16
"""One submission in this many leaves a metric out, so that merging must keep its value."""
RECOVERY_FRAME = 50
RECOVERY_SUBMISSIONS = 10_000
"""Submissions appended while the killed worker is down."""

Row = dict[str, Any]


@dataclass
class FrameLoad:
    """Submissions of `entities` clients in random order, in frames of `size`, and the model."""

    settings: KafkaSettings
    entities: int
    size: int
    submissions: int = 0
    """Submissions in Kafka."""
    rows: dict[bytes, Row] = field(default_factory=dict)
    """The row that each entity must have."""
    ledgers: dict[int, dict[str, int]] = field(default_factory=dict)
    _round: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.entities)
        self._names = [f"client-{number:07}" for number in range(self.entities)]

    async def write(self, submissions: int) -> None:
        """Append this many submissions."""
        topic = topics_from(self.settings).submissions.name
        producer = AIOKafkaProducer(
            **client_options(self.settings), acks="all", enable_idempotence=True
        )
        await producer.start()
        try:
            waiting = []
            for partition, members in self._frames(submissions):
                frame = encode_frame(NEVER_LATE, members)
                waiting.append((members, await producer.send(topic, frame, partition=partition)))
                if len(waiting) == IN_FLIGHT:
                    for sent, future in waiting:
                        self._expect(sent, await future)
                    waiting.clear()
            for sent, future in waiting:
                self._expect(sent, await future)
        finally:
            await producer.stop()

    def _frames(self, submissions: int) -> Iterator[tuple[int, list[Submission]]]:
        """Frames with their partitions; the last ones may be smaller."""
        incomplete: dict[int, list[Submission]] = {}
        for number in range(submissions):
            if number % self.entities == 0:
                self._round += 1
                self._random.shuffle(self._names)
            name = self._names[number % self.entities]
            partition = partition_of(entity_key("client", name), self.settings.kafka_partitions)
            members = incomplete.setdefault(partition, [])
            members.append(self._submission(name))
            if len(members) == self.size:
                yield partition, incomplete.pop(partition)
        yield from incomplete.items()

    def _submission(self, name: str) -> Submission:
        total = self._round * 100_000 + self._random.randrange(100_000)
        metrics: dict[str, int | float] = {
            "bytes_sent": total * 17,
            "bytes_received": total * 31,
            "packets_sent": total,
            "packets_received": total * 2,
            "connection_uptime": 1000.5 + 7 * self._round,
        }
        if self._random.randrange(PARTIAL) == 0:
            del metrics["packets_sent"]
        return Submission(
            kind=CLIENT.name,
            id=name,
            incarnation=1,
            labels={"name": f"{name}.example", "type": "native"},
            default_labels={"headless": "false"},
            metrics=metrics,
        )

    def _expect(self, members: list[Submission], sent: RecordMetadata) -> None:
        """Apply an acknowledged frame to the model."""
        self.submissions += len(members)
        ledger = self.ledgers.setdefault(sent.partition, {"offset": -1, "read": 0})
        ledger["offset"] = max(ledger["offset"], sent.offset)
        ledger["read"] += len(members)
        for index, each in enumerate(members):
            key = entity_key(each.kind, each.id)
            previous = self.rows.get(key, {})
            self.rows[key] = {
                "version": 1,
                "offset": sent.offset,
                "index": index,
                "generation": each.incarnation,
                "heard_at": sent.timestamp,
                "last_check_in": sent.timestamp / 1000,
                "labels": {"headless": "false"} | each.labels,
                "metrics": previous.get("metrics", {}) | each.metrics,
            }

    async def check(self) -> int:
        """Compare entity-state with the model; return the number of rows and ledgers.

        Raises:
            WrongResultError: one is missing, unexpected or wrong.
        """
        found: dict[bytes, bytes | None] = {}

        def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
            found.update((record.key, record.value) for record in records)

        topic = topics_from(self.settings).entity_state.name
        partitions = range(self.settings.kafka_partitions)
        async with TopicReader(self.settings, topic, partitions) as reader:
            await reader.read_to_end(collect, {})
        rows = {key: _decoded(value) for key, value in found.items() if not is_ledger_key(key)}
        for key in rows.keys() | self.rows.keys():
            if rows.get(key) != self.rows.get(key):
                raise WrongResultError(
                    f"{key!r}: expected {self.rows.get(key)}, found {rows.get(key)}"
                )
        nothing = {"stale": 0, "late": 0, "dead_lettered": 0, "lost": 0}
        for partition, ledger in self.ledgers.items():
            expected = {**ledger, "applied": ledger["read"], **nothing, "parted": 0}
            row = _decoded(found.get(b"ledger:%d" % partition)) or {}
            if {name: row.get(name) for name in expected} != expected:
                raise WrongResultError(
                    f"ledger of partition {partition}: expected {expected}, found {row}"
                )
        return len(self.rows) + len(self.ledgers)


def _decoded(value: bytes | None) -> Row | None:
    return None if value is None else msgspec.json.decode(value)


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
    pipeline: MeasuredPipeline, load: FrameLoad, number: int, submissions: int
) -> tuple[list[WorkerSample], list[WorkerSample]]:
    """Let workers process all submissions; return their samples before and after.

    The first samples are from when each worker has its share of the partitions.
    """
    kafka, token = load.settings, pipeline.secrets.bearer("METRICS_TOKEN")
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        workers = []
        for each in range(number):
            name = f"bench-{each}"
            service = pipeline.service("processor", kafka, WORKER_NAME=name)
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


async def measure(pipeline: MeasuredPipeline, case: ProcessorCase) -> Measurements:
    """Measure workers; every entity has a row before.

    Raises:
        WrongResultError: a row or a ledger is wrong.
    """
    load = FrameLoad(await pipeline.topics(), case.entities, case.frame)
    await load.write(case.entities)
    await _run_workers(pipeline, load, 1, load.submissions)
    before = load.submissions
    await load.write(case.submissions)
    first, last = await _run_workers(pipeline, load, case.workers, load.submissions - before)
    await load.check()
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
    load = FrameLoad(kafka, rows, RECOVERY_FRAME)
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
