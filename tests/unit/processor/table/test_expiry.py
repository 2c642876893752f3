"""Expiry: what is written and removed, and what is left unchanged."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from contract.evidence import decode_evidence
from contract.row import EntityRow, encode_row
from contract.total import TOTAL_VERSION, TotalRow, encode_total, total_key
from processor.core.partition_state import OffsetRange, PartitionState
from processor.core.write_batch import WriteBatch
from processor.metrics import ProcessorMetrics
from processor.table import expiry as module
from processor.table.expiry import ExpiryTask
from service.kafka.best_effort_producer import PartitionRecord

NOW = 10**12
OLD, NEW = b"client:old", b"client:new"


class FakeStateTable:
    """A table that records flushes and repairs."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.state = PartitionState(0)
        self.state.finish_loading(10)
        self.state.ledger.offset = 5
        for key, heard_at in ((OLD, NOW - 2_000), (NEW, NOW - 500)):
            self.state.rows[key] = encode_row(EntityRow(1, 5, 0, 1, heard_at, 0.0))
        self.partitions = {0: self.state}
        self.store = self
        self.removed: list[set[bytes]] = []
        self.healed: list[OffsetRange] = []
        self.evidence: list[PartitionRecord] = []

    def loaded(self) -> list[int]:
        return list(self.partitions)

    def owned(self, partition: int) -> PartitionState | None:
        return self.partitions.get(partition)

    async def flush(self, batches: dict[int, WriteBatch]) -> dict[int, int]:
        for batch in batches.values():
            self.removed.append(set(batch.changes))
            batch.commit()
        return dict.fromkeys(batches, NOW)

    async def write_evidence(self, records: Sequence[PartitionRecord]) -> None:
        self.evidence += records

    async def repair(self, partition: int, state: PartitionState, gaps: list[OffsetRange]) -> None:
        self.healed += gaps


@pytest.fixture
def table() -> FakeStateTable:
    return FakeStateTable()


def expiry(table: FakeStateTable, *, source_end: int = 6, changelog_end: int = 10) -> ExpiryTask:
    async def source_ends(partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, source_end)

    async def changelog_ends(partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, changelog_end)

    return ExpiryTask(
        cast(Any, table),
        retention=1,
        interval=1,
        source_ends=source_ends,
        changelog_ends=changelog_ends,
        write_evidence=table.write_evidence,
        metrics=ProcessorMetrics(CollectorRegistry()),
    )


async def test_only_rows_older_than_the_retention_are_removed(
    table: FakeStateTable,
) -> None:
    assert await expiry(table).expire(0) == 1
    assert table.removed == [set(), {OLD}]
    assert table.state.rows.keys() == {NEW}


async def test_the_last_check_in_of_an_expired_entity_is_written_before_it_is_removed(
    table: FakeStateTable,
) -> None:
    gone = b"client:gone"
    table.state.rows[OLD] = encode_row(EntityRow(1, 5, 0, 77, NOW - 2_000, 1234.5))
    table.state.rows[gone] = encode_row(EntityRow(1, 5, 0, 77, NOW - 2_000, 0.0, removed=True))
    rows_when_written: list[set[bytes]] = []
    write = table.write_evidence

    async def observed(records: Sequence[PartitionRecord]) -> None:
        rows_when_written.append(set(table.state.rows))
        await write(records)

    sweep = expiry(table)
    sweep._write_evidence = observed
    assert await sweep.expire(0) == 2
    assert rows_when_written == [{OLD, NEW, gone}]
    written = {record.key: record.value for record in table.evidence}
    kept = written[b"client:old|processor|expired"]
    assert kept is not None
    evidence = decode_evidence(b"client:old|processor|expired", kept)
    assert (evidence.last_ms, evidence.incarnation) == (1_234_500, 77)
    assert written[b"client:gone|processor|expired"] is None, "a removed entity is not offline"
    assert len(written) == 2


async def test_entities_expire_even_if_their_evidence_is_not_written(
    table: FakeStateTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVIDENCE_TIMEOUT", 0.01)

    async def never(_: Sequence[PartitionRecord]) -> None:
        await asyncio.Event().wait()

    sweep = expiry(table)
    sweep._write_evidence = never
    assert await sweep.expire(0) == 1
    assert table.state.rows.keys() == {NEW}


async def test_undecodable_rows_are_counted_and_kept(table: FakeStateTable) -> None:
    table.state.rows[b"client:odd"] = b"rubbish"
    table.state.rows[b"client:newer"] = b'{"version":2}'
    sweep = expiry(table)
    assert await sweep.expire(0) == 1
    assert table.state.unreadable == 2
    assert table.state.rows.keys() == {NEW, b"client:odd", b"client:newer"}
    del table.state.rows[b"client:odd"]
    await sweep.expire(0)
    assert table.state.unreadable == 1


async def test_a_total_is_not_swept_however_old(table: FakeStateTable) -> None:
    key = total_key(0, "client", ("native", "false"))
    total = TotalRow(TOTAL_VERSION, 1, 0, "client", ("native", "false"), NOW - 10**9)
    table.state.rows[key] = encode_total(total)
    await expiry(table).expire(0)
    assert table.state.rows.keys() == {NEW, key}
    assert table.state.unreadable == 0


async def test_expiry_pauses_so_that_batches_are_processed(
    table: FakeStateTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_ROWS", 10)
    for number in range(98):
        table.state.rows[b"client:%d" % number] = table.state.rows[NEW]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(module.SLICE_PAUSE / 10)
            turns += 1

    running = asyncio.create_task(others())
    assert await expiry(table).expire(0) == 1
    running.cancel()
    assert turns >= 10, "at least one turn in each of ten pauses"


@pytest.mark.parametrize("meanwhile", [None, b'{"version":2}', b"rubbish"])
async def test_a_row_that_another_worker_has_removed_or_written_is_kept(
    table: FakeStateTable, meanwhile: bytes | None
) -> None:
    """The partition was lost and regained: its state is the same object with other rows."""

    async def ends(partitions: list[int]) -> dict[int, int]:
        if meanwhile is None:
            table.state.rows.pop(OLD, None)
        else:
            table.state.rows[OLD] = meanwhile
        return dict.fromkeys(partitions, 6)

    late = expiry(table)
    late._source_ends = ends
    assert await late.expire(0) == 0
    assert table.state.rows.get(OLD) == meanwhile


async def test_expiry_ends_when_the_partition_is_lost(table: FakeStateTable) -> None:
    table.state.rows[b"client:odd"] = b"rubbish"
    sweep = asyncio.create_task(expiry(table).expire(0))
    await asyncio.sleep(module.SLICE_PAUSE / 2)
    table.partitions.clear()
    assert await sweep == 0
    assert table.state.unreadable == 0


async def test_nothing_is_removed_while_there_is_lag(table: FakeStateTable) -> None:
    assert await expiry(table, source_end=7).expire(0) == 0
    assert table.state.rows.keys() == {OLD, NEW}


async def test_nothing_is_removed_if_the_end_of_the_source_is_unknown(
    table: FakeStateTable,
) -> None:
    async def away(partitions: list[int]) -> dict[int, int]:
        raise KafkaConnectionError("away")

    kept = expiry(table)
    kept._source_ends = away
    assert await kept.expire(0) == 0
    assert table.state.rows.keys() == {OLD, NEW}


async def test_nothing_is_written_for_a_partition_lost_while_waiting(
    table: FakeStateTable,
) -> None:
    async with table.lock:
        sweep = asyncio.create_task(expiry(table).expire(0))
        await asyncio.sleep(0)
        table.partitions.clear()
    assert await sweep == 0
    assert table.removed == []


async def test_a_foreign_write_is_repaired_once(table: FakeStateTable) -> None:
    looker = expiry(table, changelog_end=12)
    await looker.check_foreign_writes()
    await looker.check_foreign_writes()
    assert table.healed == [(10, 12)]


async def test_own_records_need_no_repair(table: FakeStateTable) -> None:
    await expiry(table, changelog_end=10).check_foreign_writes()
    assert table.healed == []
