"""Telling of anomalies: bounded, and never in a flush's way."""

import asyncio

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contract.anomaly import Anomaly, Reason, decode_anomaly, encode_anomaly
from contract.frame import Submission, encode_frame
from contract.position import Position
from processor.anomaly_log import WAITING, AnomalyLog
from processor.batch import PartitionBatch, Record, Tombstone
from processor.fold import MAX_ANOMALIES, fold
from processor.metrics import ProcessorMetrics
from processor.state import PartitionState
from service.settings import KafkaSettings
from service.tasks import cancel

NOW = 1_700_000_000_000


def falling(offset: int) -> Record:
    """A client's report whose counter is below the one before."""
    metrics: dict[str, int | float] = {"bytes_sent": 10**6 - offset, "connection_uptime": 9999}
    frame = encode_frame(2**53, [Submission("client", "a", 1, metrics=metrics)])
    return Record(0, offset, NOW + 60_000 * offset, frame)


def test_all_are_counted_and_some_kept() -> None:
    batch = PartitionBatch(PartitionState(0))
    for offset in range(MAX_ANOMALIES + 50):
        fold(batch, falling(offset), partitions=1)
    assert batch.noticed == {("client", Reason.BACKWARDS): MAX_ANOMALIES + 49}
    assert len(batch.anomalies) == MAX_ANOMALIES
    first = batch.anomalies[0]
    assert (first.id, first.reason, first.offset) == ("a", Reason.BACKWARDS, 1)
    assert decode_anomaly(encode_anomaly(first)) == first


def test_a_replay_is_not_noticed_again() -> None:
    batch = PartitionBatch(PartitionState(0))
    for offset in (0, 1, 0, 1):
        fold(batch, falling(offset), partitions=1)
    assert batch.noticed == {("client", Reason.BACKWARDS): 1}
    assert len(batch.anomalies) == 1


def test_a_number_beyond_all_bounds_stops_nothing() -> None:
    batch = PartitionBatch(PartitionState(0))
    fold(batch, falling(0), partitions=1)
    wild: dict[str, int | float] = {"bytes_sent": 10**400, "connection_uptime": 10**400}
    frame = encode_frame(2**53, [Submission("client", "a", 1, metrics=wild)])
    fold(batch, Record(0, 1, NOW, frame), partitions=1)
    assert (batch.submissions, batch.noticed) == (2, {})


ANOMALY = Anomaly(1, "client", "a", Reason.RATE, "too much", 0, 0, 0, NOW)


def unreachable(metrics: ProcessorMetrics) -> AnomalyLog:
    """A log whose Kafka is nowhere."""
    return AnomalyLog(KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1"), "anomalies", metrics)


def test_a_full_queue_drops_and_counts() -> None:
    metrics = ProcessorMetrics(CollectorRegistry())
    unreachable(metrics).tell([ANOMALY] * (WAITING + 7))
    sample = "tobogganing_processor_dropped_anomalies_total"
    assert metrics.registry.get_sample_value(sample) == 7


async def test_without_kafka_it_goes_on_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.anomaly_log.PAUSE", 0.01)
    log = unreachable(ProcessorMetrics(CollectorRegistry()))
    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(log.run())
        log.tell([ANOMALY])
        async with asyncio.timeout(30):
            while len(said) < 2 and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not running.done()
    await cancel(running)
    assert {line["event"] for line in said} == {"anomalies could not be written"}


def test_what_is_remembered_goes_with_the_row_and_with_the_partition() -> None:
    state = PartitionState(0)
    fold(PartitionBatch(state), falling(0), partitions=1)
    assert list(state.memories) == [b"client:a"]
    removing = PartitionBatch(state)
    removing.changes[b"client:a"] = Tombstone(Position(0, 0))
    removing.settle()
    assert state.memories == {}
    fold(PartitionBatch(state), falling(1), partitions=1)
    state.finish_loading(9)
    assert state.memories == {}, "another worker may have gone on meanwhile"
