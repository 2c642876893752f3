"""Writing anomalies: bounded, and independent of the flush."""

import asyncio

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contract.anomaly import Anomaly, Reason, decode_anomaly, encode_anomaly
from contract.frame import Submission, encode_frame
from contract.position import Position
from processor.changelog.anomaly_producer import AnomalyProducer
from processor.core.frame_reducer import MAX_ANOMALIES, reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import Tombstone, WriteBatch
from processor.metrics import ProcessorMetrics
from service.config.settings import KafkaSettings
from service.kafka.best_effort_producer import MAX_QUEUED
from service.tasks import cancel

NOW = 1_700_000_000_000


def falling(offset: int) -> Record:
    """Return a client's report whose counter is below the previous one."""
    metrics: dict[str, int | float] = {"bytes_sent": 10**6 - offset, "connection_uptime": 9999}
    frame = encode_frame(2**53, [Submission("client", "a", 1, metrics=metrics)])
    return Record(0, offset, NOW + 60_000 * offset, frame)


def test_all_anomalies_are_counted_and_some_are_kept() -> None:
    batch = WriteBatch(PartitionState(0))
    for offset in range(MAX_ANOMALIES + 50):
        reduce_frame(batch, falling(offset), partitions=1)
    assert batch.anomaly_counts == {("client", Reason.BACKWARDS): MAX_ANOMALIES + 49}
    assert len(batch.anomalies) == MAX_ANOMALIES
    first = batch.anomalies[0]
    assert (first.id, first.reason, first.offset) == ("a", Reason.BACKWARDS, 1)
    assert decode_anomaly(encode_anomaly(first)) == first


def test_a_replay_is_not_counted_again() -> None:
    batch = WriteBatch(PartitionState(0))
    for offset in (0, 1, 0, 1):
        reduce_frame(batch, falling(offset), partitions=1)
    assert batch.anomaly_counts == {("client", Reason.BACKWARDS): 1}
    assert len(batch.anomalies) == 1


def test_an_absurdly_large_number_does_no_harm() -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, falling(0), partitions=1)
    wild: dict[str, int | float] = {"bytes_sent": 10**400, "connection_uptime": 10**400}
    frame = encode_frame(2**53, [Submission("client", "a", 1, metrics=wild)])
    reduce_frame(batch, Record(0, 1, NOW, frame), partitions=1)
    assert (batch.submissions, batch.anomaly_counts) == (2, {})


ANOMALY = Anomaly(1, "client", "a", Reason.RATE, "too much", 0, 0, 0, NOW)


def unreachable(metrics: ProcessorMetrics) -> AnomalyProducer:
    """Return a producer whose Kafka cannot be reached."""
    return AnomalyProducer(
        KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1"), "anomalies", metrics
    )


def test_a_full_queue_drops_anomalies_and_counts_them() -> None:
    metrics = ProcessorMetrics(CollectorRegistry())
    unreachable(metrics).enqueue([ANOMALY] * (MAX_QUEUED + 7))
    sample = "tobogganing_processor_dropped_anomalies_total"
    assert metrics.registry.get_sample_value(sample) == 7


async def test_without_kafka_it_keeps_retrying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.kafka.best_effort_producer.RECONNECT_DELAY", 0.01)
    log = unreachable(ProcessorMetrics(CollectorRegistry()))
    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(log.run())
        log.enqueue([ANOMALY])
        async with asyncio.timeout(30):
            while len(said) < 2 and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not running.done()
    await cancel(running)
    assert {line["event"] for line in said} == {"could not write records"}


def test_the_detectors_state_is_dropped_with_the_row_and_with_the_partition() -> None:
    state = PartitionState(0)
    reduce_frame(WriteBatch(state), falling(0), partitions=1)
    assert list(state.histories) == [b"client:a"]
    removing = WriteBatch(state)
    removing.changes[b"client:a"] = Tombstone(Position(0, 0))
    removing.commit()
    assert state.histories == {}
    reduce_frame(WriteBatch(state), falling(1), partitions=1)
    state.finish_loading(9)
    assert state.histories == {}, "another worker may have continued since"
