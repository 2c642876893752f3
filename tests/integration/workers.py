"""Processor workers under faults: real processes, frames with a model, an exact comparison."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.frame import Submission, encode_frame, entity_key, partition_of
from contract.row import LedgerRow, decode_ledger_row, is_ledger_key
from contract.topics import Topics
from processor.fold import PartitionBatch, Record, fold
from processor.state import PartitionState
from service.kafka import client_options, topics_of
from service.reader import TopicReader
from service.settings import KafkaSettings

NEVER_LATE = 2**53
TOKEN = "metrics-token-of-the-tests"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Worker:
    """A `tobogganing processor` process, restarted by whoever kills it."""

    def __init__(self, settings: KafkaSettings, name: str, folder: Path, **extra: str) -> None:
        self.port = free_port()
        self._log = folder / f"{name}.log"
        self._environ = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
            "KAFKA_PARTITIONS": str(settings.kafka_partitions),
            "METRICS_TOKEN": TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WORKER_NAME": name,
            "LOG_FORMAT": "json",
            **extra,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processor", env=self._environ, stdout=log, stderr=log
            )

    async def ready(self, patience: float = 60.0) -> None:
        """Wait until the worker owns its partitions.

        Raises:
            TimeoutError: it does not, with the end of its log.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience), aiohttp.ClientSession() as http:
                while True:
                    assert self._process is not None
                    if self._process.returncode is not None:
                        break
                    with contextlib.suppress(aiohttp.ClientError):
                        async with http.get(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                            if answer.status == 200:
                                return
                    await asyncio.sleep(0.05)
        raise TimeoutError(f"worker is not ready:\n{self.log()[-3000:]}")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def faults(self) -> list[str]:
        """Lines in which the worker said why it ended itself."""
        return [line for line in self.log().splitlines() if '"level": "critical"' in line]

    def send(self, sent: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(sent)

    @property
    def exit_status(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def ended(self, patience: float = 15.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(patience):
            return await self._process.wait()

    async def end(self, sent: signal.Signals) -> int:
        self.send(sent)
        return await self.ended()


@contextlib.asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Start workers, and see to it that none outlives the test."""
    try:
        for worker in workers:
            await worker.start()
        for worker in workers:
            await worker.ready()
        yield
    finally:
        for worker in workers:
            if worker.exit_status is None:
                await worker.end(signal.SIGKILL)


@dataclass
class Load:
    """Frames with growing counters of many entities, sent until told to stop."""

    settings: KafkaSettings
    entities: int = 300
    rate: int = 1500
    """Submissions a second."""
    seed: int = 0
    sent: int = 0
    _counters: dict[str, int] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send in the background; leaving the context ends it with every frame acknowledged."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _run(self, stop: asyncio.Event) -> None:
        chance = random.Random(self.seed)
        topic = topics_of(self.settings).submissions.name
        producer = AIOKafkaProducer(
            **client_options(self.settings), acks="all", enable_idempotence=True, linger_ms=0
        )
        await producer.start()
        pending = []
        try:
            while not stop.is_set():
                for partition, submissions in self._next(chance, self.rate // 50).items():
                    value = encode_frame(NEVER_LATE, submissions)
                    pending.append(await producer.send(topic, value, partition=partition))
                    self.sent += len(submissions)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.02)
            await asyncio.gather(*pending)
        finally:
            await producer.stop()

    def _next(self, chance: random.Random, number: int) -> dict[int, list[Submission]]:
        frames: dict[int, list[Submission]] = {}
        for _ in range(number):
            name = f"c{chance.randrange(self.entities)}"
            counter = self._counters[name] = self._counters.get(name, 0) + 1
            metrics: dict[str, int | float] = {"bytes_sent": counter}
            if chance.random() < 0.1:  # a fold that drops a partial submission shows in the row
                metrics["packets_sent"] = counter
            submission = Submission(
                kind="client",
                id=name,
                generation=1,
                labels={"name": name, "type": "native"},
                fallback={"headless": "false"},
                metrics=metrics,
            )
            partition = partition_of(entity_key("client", name), self.settings.kafka_partitions)
            frames.setdefault(partition, []).append(submission)
        return frames


@dataclass
class Model:
    """What the state must be: the source topic folded from its beginning, by the pure fold."""

    states: dict[int, PartitionState]

    @classmethod
    async def of(cls, settings: KafkaSettings) -> "Model":
        partitions = range(settings.kafka_partitions)
        states = {p: PartitionState() for p in partitions}

        def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
            batch = PartitionBatch(states[partition])
            for record in records:
                found = Record(partition, record.offset, record.timestamp, record.value)
                fold(batch, found, settings.kafka_partitions)

        async with TopicReader(settings, _topics(settings).submissions.name, partitions) as reader:
            await reader.read_to_end(apply, {})
        return cls(states)


@dataclass
class Found:
    """What the entity-state topic holds: the last record of each key, as compaction keeps it."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    ledgers: dict[int, LedgerRow] = field(default_factory=dict)
    longest_stall: float = 0.0
    """Longest time between two records of one partition, in seconds."""

    @classmethod
    async def of(cls, settings: KafkaSettings) -> "Found":
        found = cls()
        newest: dict[int, int] = {}

        def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                stall = (record.timestamp - newest.get(partition, record.timestamp)) / 1000
                found.longest_stall = max(found.longest_stall, stall)
                newest[partition] = record.timestamp
                if is_ledger_key(record.key):
                    assert record.value is not None
                    found.ledgers[partition] = decode_ledger_row(record.value)
                elif record.value is None:
                    found.rows.pop(record.key, None)
                else:
                    found.rows[record.key] = record.value

        partitions = range(settings.kafka_partitions)
        async with TopicReader(settings, _topics(settings).entity_state.name, partitions) as reader:
            await reader.read_to_end(apply, {})
        return found


async def settled(settings: KafkaSettings, patience: float = 60.0) -> None:
    """Wait until every ledger has reached the end of its source partition.

    Raises:
        TimeoutError: the workers stand still, or lost track.
    """
    partitions = range(settings.kafka_partitions)
    async with TopicReader(settings, _topics(settings).submissions.name, partitions) as reader:
        ends = await reader.ends()
    ledgers: dict[int, int] = dict.fromkeys(partitions, -1)

    def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if is_ledger_key(record.key) and record.value is not None:
                ledgers[partition] = decode_ledger_row(record.value).offset

    try:
        async with (
            asyncio.timeout(patience),
            TopicReader(settings, _topics(settings).entity_state.name, partitions) as reader,
        ):
            reader.seek(await reader.beginnings())
            while any(ledgers[p] < ends[p] - 1 for p in partitions):
                await reader.poll(apply)
    except TimeoutError:
        raise TimeoutError(f"ledgers {ledgers} did not reach the ends {ends}") from None


async def assert_nothing_lost(settings: KafkaSettings, load: Load) -> Found:
    """Compare state, ledgers and model exactly."""
    model, found = await Model.of(settings), await Found.of(settings)
    expected_rows = {key: row for s in model.states.values() for key, row in s.rows.items()}
    wrong = [
        key
        for key in expected_rows.keys() | found.rows.keys()
        if expected_rows.get(key) != found.rows.get(key)
    ]
    examples = [(key, expected_rows.get(key), found.rows.get(key)) for key in wrong[:3]]
    assert not wrong, f"{len(wrong)} of {len(expected_rows)} rows are wrong, e.g. {examples}"
    for partition, state in model.states.items():
        assert found.ledgers[partition] == state.ledger
        assert found.ledgers[partition].balances
    assert sum(ledger.read for ledger in found.ledgers.values()) == load.sent
    return found


def _topics(settings: KafkaSettings) -> Topics:
    return topics_of(settings)
