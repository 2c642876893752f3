"""Processor workers under faults: real processes, a model of the frames, and an exact
comparison."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from contract.ledger import LedgerRow, decode_ledger_row, ledger_key
from contract.row import RowError
from contract.topics import Topics
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.processes import Service

NEVER_LATE = 2**53


def a_worker(settings: KafkaSettings, name: str, folder: Path, **extra: str) -> Service:
    """Return a `tobogganing processor` process with continuous expiry runs."""
    extra = {"WORKER_NAME": name, "SWEEP_INTERVAL_SECONDS": "0.05"} | extra
    return Service("processor", settings, folder, **extra)


@contextlib.asynccontextmanager
async def running(*workers: Service) -> AsyncIterator[None]:
    """Start workers, and stop them at the end of the test."""
    async with contextlib.AsyncExitStack() as stack:
        for each in workers:
            await stack.enter_async_context(each)
        for each in workers:
            await each.wait_until_ready()
        yield


@dataclass
class WorkerLoad:
    """Frames with growing counters of many entities, sent until stopped."""

    settings: KafkaSettings
    entities: int = 300
    rate: int = 1500
    """Submissions per second."""
    seed: int = 0
    sent: int = 0
    _counters: dict[str, int] = field(default_factory=dict)
    _names: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send in the background; after the context every frame is acknowledged."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def backlog(self, frames: int, submissions: int) -> None:
        """Send frames of entities with one submission each, before a worker reads them."""
        topic = topics_from(self.settings).submissions.name
        async with self._producer() as producer:
            for _ in range(frames):
                by_partition: dict[int, list[Submission]] = {}
                for _ in range(submissions):
                    self._submit(by_partition, f"once-{next(self._names)}", {"bytes_sent": 1})
                for partition, members in by_partition.items():
                    await producer.send(
                        topic, encode_frame(NEVER_LATE, members), partition=partition
                    )
                    self.sent += len(members)

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """Return a producer; the end of the context waits for all acknowledgements."""
        producer = AIOKafkaProducer(
            **client_options(self.settings), acks="all", enable_idempotence=True, linger_ms=0
        )
        await producer.start()
        try:
            yield producer
            await producer.flush()
        finally:
            await producer.stop()

    async def _run(self, stop: asyncio.Event) -> None:
        rng = random.Random(self.seed)
        topic = topics_from(self.settings).submissions.name
        async with self._producer() as producer:
            while not stop.is_set():
                for partition, members in self._next(rng, self.rate // 50).items():
                    value = encode_frame(NEVER_LATE, members)
                    await producer.send(topic, value, partition=partition)
                    self.sent += len(members)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.02)

    def _next(self, rng: random.Random, number: int) -> dict[int, list[Submission]]:
        by_partition: dict[int, list[Submission]] = {}
        for _ in range(number):
            # Some entities have one submission only, so that no later one hides a loss.
            once = rng.random() < 0.2
            name = f"once-{next(self._names)}" if once else f"c{rng.randrange(self.entities)}"
            counter = self._counters[name] = self._counters.get(name, 0) + 1
            metrics: dict[str, int | float] = {"bytes_sent": counter}
            if rng.random() < 0.1:  # a lost partial submission is visible in the row
                metrics["packets_sent"] = counter
            self._submit(by_partition, name, metrics)
        return by_partition

    def _submit(
        self,
        by_partition: dict[int, list[Submission]],
        name: str,
        metrics: dict[str, int | float],
    ) -> None:
        submission = Submission(
            kind="client",
            id=name,
            incarnation=1,
            labels={"name": name, "type": "native"},
            default_labels={"headless": "false"},
            metrics=metrics,
        )
        partition = partition_of(entity_key("client", name), self.settings.kafka_partitions)
        by_partition.setdefault(partition, []).append(submission)


@dataclass
class RowModel:
    """The expected state: the source topic reduced from its start by the pure functions."""

    states: dict[int, PartitionState]

    @classmethod
    async def of(cls, settings: KafkaSettings) -> "RowModel":
        partitions = range(settings.kafka_partitions)
        states = {p: PartitionState(p) for p in partitions}

        def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
            batch = WriteBatch(states[partition])
            for record in records:
                found = Record(partition, record.offset, record.timestamp, record.value)
                reduce_frame(batch, found, settings.kafka_partitions)
            batch.commit()

        async with TopicReader(settings, _topics(settings).submissions.name, partitions) as reader:
            await reader.read_to_end(apply, {})
        return cls(states)


@dataclass
class Found:
    """The content of the entity-state topic: the last record of each key, as compaction
    keeps it."""

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
                if record.key == ledger_key(partition):
                    assert record.value is not None
                    with contextlib.suppress(RowError):  # invalid on purpose
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
        TimeoutError: the workers make no progress, or have lost records.
    """
    partitions = range(settings.kafka_partitions)
    async with TopicReader(settings, _topics(settings).submissions.name, partitions) as reader:
        ends = await reader.end_offsets()
    ledgers: dict[int, int] = dict.fromkeys(partitions, -1)

    def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if record.key == ledger_key(partition) and record.value is not None:
                with contextlib.suppress(RowError):
                    ledgers[partition] = decode_ledger_row(record.value).offset

    try:
        async with (
            asyncio.timeout(patience),
            TopicReader(settings, _topics(settings).entity_state.name, partitions) as reader,
        ):
            reader.seek(await reader.beginning_offsets())
            while any(ledgers[p] < ends[p] - 1 for p in partitions):
                await reader.poll(apply)
    except TimeoutError:
        raise TimeoutError(f"ledgers {ledgers} did not reach the ends {ends}") from None


async def assert_nothing_lost(settings: KafkaSettings, load: WorkerLoad) -> Found:
    """Compare state, ledgers and model exactly."""
    model, found = await RowModel.of(settings), await Found.of(settings)
    expected_rows = {key: row for s in model.states.values() for key, row in s.rows.items()}
    wrong = [
        key
        for key in expected_rows.keys() | found.rows.keys()
        if expected_rows.get(key) != found.rows.get(key)
    ]
    examples = [(key, expected_rows.get(key), found.rows.get(key)) for key in wrong[:3]]
    assert not wrong, f"{len(wrong)} of {len(expected_rows)} rows are wrong, e.g. {examples}"
    for partition, state in model.states.items():
        # The model does not have leader epochs.
        counted = msgspec.structs.replace(found.ledgers[partition], mark=None, epochs=())
        assert counted == msgspec.structs.replace(state.ledger, mark=None, epochs=())
        assert found.ledgers[partition].balances
    assert sum(ledger.read for ledger in found.ledgers.values()) == load.sent
    return found


def _topics(settings: KafkaSettings) -> Topics:
    return topics_from(settings)
