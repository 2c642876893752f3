"""A request waits until the ledger covers its receipts, and never forever."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError

from contract.history import SourceMark
from contract.ledger import LedgerRow
from contract.position import Receipt
from exporter.receipts.lookup import RecordLookup
from exporter.scrape.read_barrier import ReadBarrier, parse_receipts
from service.http.errors import ApiError

SOON = 0.01
NEVER = 60.0


def ledgers(offsets: dict[int, int]) -> dict[int, LedgerRow]:
    return {p: LedgerRow(version=1, offset=offset) for p, offset in offsets.items()}


async def nowhere(receipt: Receipt) -> RecordLookup:
    """Fail: the ledger is sufficient, so no record is looked up."""
    raise AssertionError(receipt)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_covered_receipt_is_not_waited_for() -> None:
    read_barrier = ReadBarrier([0, 1], 0, nowhere)
    read_barrier.advance(ledgers({0: 7}))
    await read_barrier.wait_for([], SOON)
    await read_barrier.wait_for([Receipt(0, 7, 3), Receipt(0, 2, 0)], SOON)


async def test_all_receipts_are_waited_for() -> None:
    read_barrier = ReadBarrier([0, 1], 10, nowhere)
    receipts = [Receipt(0, 7, 0), Receipt(1, 4, 0), Receipt(0, 9, 0)]
    waiting = asyncio.create_task(read_barrier.wait_for(receipts, NEVER))
    for offsets in ({0: 7}, {1: 4}, {0: 8}):
        read_barrier.advance(ledgers(offsets))
        await settle()
        assert not waiting.done()
    read_barrier.advance(ledgers({0: 9}))
    await waiting


async def test_each_waiter_continues_when_its_own_receipt_is_covered() -> None:
    read_barrier = ReadBarrier([0], 10, nowhere)
    tasks = [
        asyncio.create_task(read_barrier.wait_for([Receipt(0, n, 0)], NEVER)) for n in range(5)
    ]
    await settle()
    read_barrier.advance(ledgers({0: 2}))
    await settle()
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    read_barrier.advance(ledgers({0: 4}))
    await asyncio.gather(*tasks)


async def test_a_timeout_is_504() -> None:
    read_barrier = ReadBarrier([0], 1, nowhere)
    with pytest.raises(ApiError) as raised:
        await read_barrier.wait_for([Receipt(0, 0, 0)], SOON)
    assert raised.value.status == 504
    read_barrier.advance(ledgers({0: 0}))  # no waiter is left
    await read_barrier.wait_for([Receipt(0, 0, 0)], SOON)


async def test_a_partition_that_is_not_served_is_421_at_once() -> None:
    read_barrier = ReadBarrier([1], 1, nowhere)
    with pytest.raises(ApiError) as raised:
        await read_barrier.wait_for([Receipt(1, 9, 0), Receipt(0, 0, 0)], NEVER)
    assert raised.value.status == 421


def two_epochs(offset: int) -> LedgerRow:
    """A ledger whose log lost its end from offset 5 on; `offset` is counted now."""
    row = LedgerRow(version=1, offset=-1)
    for number in range(offset + 1):
        epoch, appended = (0, number) if number < 5 else (2, 1000 + number)
        row.count_record(number, SourceMark(number, epoch, appended, "a" * 32), appended)
    return row


async def test_near_the_start_of_an_epoch_the_record_in_kafka_decides() -> None:
    looked_up = []

    async def find(receipt: Receipt) -> RecordLookup:
        looked_up.append(receipt)
        held = SimpleNamespace(timestamp=1000 + receipt.offset, checksum=2)
        return RecordLookup(0, 20, cast(Any, held), "a" * 32)

    barrier = ReadBarrier([0], 10, find)
    barrier.advance({0: two_epochs(4)})
    fresh, lost = Receipt(0, 7, 0, 1007), Receipt(0, 7, 0, 7)
    tasks = [asyncio.create_task(barrier.wait_for([each], NEVER)) for each in (fresh, lost)]
    await settle()
    assert not any(task.done() for task in tasks)
    barrier.advance({0: two_epochs(5)})
    await settle()
    assert not tasks[0].done()
    with pytest.raises(ApiError) as raised:
        await tasks[1]
    assert raised.value.status == 410
    assert looked_up == [fresh, lost]
    barrier.advance({0: two_epochs(6)})
    await settle()
    assert len(looked_up) == 2, "a record that the ledger does not cover is not looked up again"
    barrier.advance({0: two_epochs(7)})
    await tasks[0]

    async def no_answer(receipt: Receipt) -> RecordLookup:
        raise KafkaConnectionError

    barrier = ReadBarrier([0], 10, no_answer)
    barrier.advance({0: two_epochs(7)})
    with pytest.raises(ApiError) as raised:
        await barrier.wait_for([lost], NEVER)
    assert raised.value.status == 503


async def test_the_number_of_waiters_is_limited() -> None:
    read_barrier = ReadBarrier([0], 1, nowhere)
    first = asyncio.create_task(read_barrier.wait_for([Receipt(0, 0, 0)], NEVER))
    await settle()
    with pytest.raises(ApiError) as raised:
        await read_barrier.wait_for([Receipt(0, 0, 0)], NEVER)
    assert raised.value.status == 503
    assert raised.value.headers == {"Retry-After": "1"}
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(ApiError) as raised:
        await read_barrier.wait_for([Receipt(0, 0, 0)], SOON)
    assert raised.value.status == 504


@pytest.mark.parametrize(
    "text", ["", "1", "1-2", "1-2-3-4-5", "a-b-c", "-1-2-3", "1-2-3 ", "\u0661-2-3"]
)
def test_a_malformed_receipt_is_400(text: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse_receipts(["0-0-0", text])
    assert raised.value.status == 400
    assert raised.value.body["field"] == "after"


def test_receipts_are_parsed() -> None:
    assert parse_receipts(["0-12-3", "3-0-0"]) == [Receipt(0, 12, 3), Receipt(3, 0, 0)]
