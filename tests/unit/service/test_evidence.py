"""Limits of what a process writes as evidence."""

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contract.entity import partition_of
from contract.evidence import MAX_DETAIL, Evidence, EvidenceReason, decode_evidence
from service.config.settings import KafkaSettings
from service.evidence import (
    BURST,
    MAX_ENTRIES,
    MAX_PER_MINUTE,
    REST_SECONDS,
    EvidenceLog,
    EvidenceMetrics,
    EvidenceTable,
)
from service.kafka.best_effort_producer import MAX_QUEUED, PartitionRecord

WRONG_KEY = ("client", "a", EvidenceReason.UNAUTHORIZED)
HOUR_MS = 3_600_000


def take(table: EvidenceTable, now: float, limit: int = 10**6) -> list[Evidence]:
    return list(table.take_due(now, limit))


def test_the_first_event_is_written_at_once_and_the_next_after_a_minute() -> None:
    table = EvidenceTable("gateway-1")
    table.note(WRONG_KEY, 1000, network="192.0.2.0/24", detail="x" * 1000)
    (first,) = take(table, 0.0)
    assert (first.count, first.first_ms, first.last_ms) == (1, 1000, 1000)
    assert (first.network, first.detail) == ("192.0.2.0/24", "x" * MAX_DETAIL)
    for number in range(500):
        table.note(WRONG_KEY, 2000 + number, network="198.51.100.0/24")
        assert take(table, REST_SECONDS - 1) == []
    (second,) = take(table, REST_SECONDS)
    assert (second.count, second.first_ms, second.last_ms) == (501, 1000, 2499)
    assert second.network == "198.51.100.0/24"
    assert second.key == first.key
    assert take(table, 10 * REST_SECONDS) == [], "nothing has changed"


def test_a_count_begins_again_after_an_hour_of_silence() -> None:
    table = EvidenceTable("gateway-1")
    table.note(WRONG_KEY, 1000)
    table.note(WRONG_KEY, 2000)
    table.note(WRONG_KEY, 2001 + HOUR_MS)
    (found,) = take(table, 0.0)
    assert (found.count, found.first_ms) == (1, 2001 + HOUR_MS)


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.sampled_from((0.0, 0.5, 7.0, 61.0))), max_size=300)
)
def test_a_flood_writes_at_most_the_limit(events: list[tuple[int, float]]) -> None:
    table, now, written = EvidenceTable("gateway-1"), 0.0, 0
    newest: dict[bytes, float] = {}
    for id, pause in events:
        for number in range(id, id + 50):
            table.note(("client", str(number), EvidenceReason.UNAUTHORIZED), round(now * 1000))
        now += pause
        for each in take(table, now):
            written += 1
            assert now - newest.get(each.key, -REST_SECONDS) >= REST_SECONDS
            newest[each.key] = now
        assert written <= BURST + MAX_PER_MINUTE * now / 60 + 1
        assert len(table) <= MAX_ENTRIES


def test_memory_is_bounded_and_old_entries_make_room() -> None:
    table = EvidenceTable("gateway-1")

    def note(number: int) -> bool:
        return table.note(("client", str(number), EvidenceReason.UNAUTHORIZED), 1000)

    assert all(note(number) for number in range(MAX_ENTRIES))
    assert not note(MAX_ENTRIES), "nothing of it is written yet"
    assert len(table) == MAX_ENTRIES
    now = 0.0
    while take(table, now):
        now += REST_SECONDS
    assert note(MAX_ENTRIES)
    assert len(table) == MAX_ENTRIES


def test_what_the_queue_cannot_take_waits() -> None:
    table = EvidenceTable("gateway-1")
    for number in range(5):
        table.note(("client", str(number), EvidenceReason.UNAUTHORIZED), 1000)
    assert [each.id for each in take(table, 0.0, limit=2)] == ["0", "1"]
    assert [each.id for each in take(table, 0.0)] == ["2", "3", "4"]


def a_log(registry: CollectorRegistry) -> EvidenceLog:
    settings = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1", kafka_partitions=4)
    return EvidenceLog(settings, "gateway-1", EvidenceMetrics("gateway", registry), lambda: 7000)


def test_a_record_goes_to_the_partition_of_its_entity() -> None:
    log = a_log(CollectorRegistry())
    log.note(*WRONG_KEY, network="192.0.2.0/24")
    (evidence,) = log.take_due()
    partition, key, value = log.record(evidence)
    assert partition == partition_of(b"client:a", 4)
    assert value is not None
    assert decode_evidence(key, value) == evidence
    assert (evidence.first_ms, evidence.writer) == (7000, "gateway-1")


def test_events_beyond_the_memory_are_counted_as_dropped() -> None:
    registry = CollectorRegistry()
    log = a_log(registry)
    for number in range(MAX_ENTRIES + 7):
        log.note("client", str(number), EvidenceReason.UNAUTHORIZED)
    assert registry.get_sample_value("tobogganing_gateway_dropped_evidence_total") == 7


async def test_without_kafka_events_wait_and_a_write_does_not_end() -> None:
    registry = CollectorRegistry()
    log = a_log(registry)
    record = PartitionRecord(0, b"k", b"v")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await log.write([record] * (MAX_QUEUED + 5))
            raise AssertionError("it ended")
    log.note(*WRONG_KEY)
    assert log.take_due() == [], "the queue is full"
    assert registry.get_sample_value("tobogganing_gateway_dropped_evidence_total") == 0
