"""The processor's composition root, with an in-memory changelog."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from contract.anomaly import Anomaly
from contract.entity import entity_key
from contract.evidence import EvidenceReason
from contract.frame import Submission, encode_frame
from contract.ledger import is_ledger_key
from contract.row import decode_entity_row
from contract.total import is_total_key
from processor.app import Processor
from processor.changelog.anomaly_producer import AnomalyProducer
from processor.changelog.producer import ChangelogProducer, WriteResult
from processor.core.partition_state import PartitionState
from processor.core.source_record import DeadLetter
from processor.core.write_batch import ChangelogRecord, RecordBatch
from processor.faust_compat.poll import Poll
from processor.metrics import ProcessorMetrics
from processor.settings import ProcessorSettings
from processor.source.gap_check import Ahead
from service.config.secrets import ReloadableTokens
from service.evidence import EvidenceLog

APPENDED_MS = 1_700_000_000_000
KEY = entity_key("client", "a")


class InMemoryChangelog(ChangelogProducer):
    """A changelog that keeps the records, and dead letters."""

    def __init__(self) -> None:
        self.records: list[ChangelogRecord] = []
        self.dead_letters: list[DeadLetter] = []

    async def write(self, batches: Mapping[int, Iterable[RecordBatch]]) -> dict[int, WriteResult]:
        written = {}
        for partition, each in batches.items():
            start = len(self.records)
            for batch in each:
                self.records += batch
            written[partition] = WriteResult([(start, len(self.records))], APPENDED_MS)
        return written

    async def write_dead_letters(self, dead_letters: list[DeadLetter]) -> None:
        self.dead_letters += dead_letters


class InMemoryAnomalies(AnomalyProducer):
    def __init__(self) -> None:
        self.found: list[Anomaly] = []

    def enqueue(self, anomalies: Iterable[Anomaly]) -> None:
        self.found += anomalies


class InMemoryEvidence(EvidenceLog):
    def __init__(self) -> None:
        self.noted: list[tuple[str, str, EvidenceReason, str]] = []

    def note(self, kind: str, id: str, reason: EvidenceReason, **details: Any) -> None:
        self.noted.append((kind, id, reason, details["receipt"]))


class Stream:
    """A stream that keeps the offsets of acknowledged events."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    async def ack(self, event: Any) -> None:
        self.acknowledged.append(event.message.offset)


class Worker:
    """A worker that owns partition 0, which is empty."""

    def __init__(self) -> None:
        settings = ProcessorSettings(
            kafka_bootstrap_servers="127.0.0.1:1",
            kafka_partitions=1,
            metrics_token=ReloadableTokens("scrape"),
        )
        self.changelog = InMemoryChangelog()
        self.evidence = InMemoryEvidence()
        self.stream = Stream()
        self.processor = Processor(
            settings,
            ProcessorMetrics(CollectorRegistry()),
            changelog=self.changelog,
            anomalies=InMemoryAnomalies(),
            evidence=self.evidence,
            look_ahead=self._look_ahead,
        )
        state = PartitionState(0)
        state.loaded = True
        self.processor.table.store.partitions[0] = state
        self.processor.heartbeat.on_joined(
            SimpleNamespace(member_id="m", _do_heartbeat=self._look_ahead)
        )

    async def _look_ahead(self, partition: int, offset: int) -> Ahead:
        raise AssertionError("there is no gap")

    async def receive(self, *values: bytes) -> None:
        """Process one poll of records with these values."""
        start = self.processor.table.store.partitions[0].ledger.next_offset
        records = [
            ConsumerRecord(
                *("submissions", 0, start + n, APPENDED_MS, 1, None, value, None, -1, len(value)),
                (),
            )
            for n, value in enumerate(values)
        ]
        message = SimpleNamespace(
            partition=0,
            offset=records[-1].offset,
            timestamp=APPENDED_MS / 1000,
            value=Poll.of(records),
            generation_id=self.processor.app.consumer_generation_id,
        )
        event = SimpleNamespace(message=message)
        await self.processor.agent._process_batch(cast(Any, self.stream), [cast(Any, event)])


def frame(count: int) -> bytes:
    return encode_frame(2**53, [Submission("client", "a", 1, metrics={"bytes_sent": count})])


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_a_frame_becomes_a_row_with_its_ledger_and_is_acknowledged(worker: Worker) -> None:
    await worker.receive(frame(1), frame(2))
    (key, value, _), (total, *_), (ledger, *_) = worker.changelog.records
    assert key == KEY
    assert value is not None
    assert decode_entity_row(value).metrics == {"bytes_sent": 2}
    assert is_total_key(total)
    assert is_ledger_key(ledger)
    assert worker.processor.table.store.partitions[0].ledger.applied == 2
    assert worker.stream.acknowledged == [1]


async def test_invalid_data_becomes_a_dead_letter(worker: Worker) -> None:
    await worker.receive(b"rubbish")
    (letter,) = worker.changelog.dead_letters
    assert letter.value == b"rubbish"
    assert worker.evidence.noted == [], "nothing names an entity"
    assert worker.processor.table.store.partitions[0].ledger.dead_lettered == 1
    assert worker.stream.acknowledged == [0]


async def test_a_submission_that_is_not_applied_leaves_evidence(worker: Worker) -> None:
    late = encode_frame(APPENDED_MS - 1, [Submission("client", "a", 1)])
    await worker.receive(frame(1), late)
    receipt = f"0-1-0-{APPENDED_MS}"
    assert worker.evidence.noted == [("client", "a", EvidenceReason.LATE, receipt)]


async def test_a_worker_is_not_ready_before_its_partitions_are_assigned(worker: Worker) -> None:
    assert "its partitions" in worker.processor.not_ready_reasons()
