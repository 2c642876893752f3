"""Holes: nothing is passed over unseen."""

import pytest

from contract.row import LedgerRow, empty_ledger
from processor.holes import HoleError, check_hole


async def check(ledger: LedgerRow, offset: int, first: int) -> None:
    async def first_offset(partition: int) -> int:
        assert partition == 3
        return first

    await check_hole(ledger, 3, offset, first_offset)


@pytest.fixture
def ledger() -> LedgerRow:
    ledger = empty_ledger()
    ledger.offset = 9
    return ledger


@pytest.mark.parametrize("offset", [0, 9, 10])
async def test_the_next_and_replays_pass(ledger: LedgerRow, offset: int) -> None:
    await check(ledger, offset, first=0)
    assert (ledger.offset, ledger.lost) == (9, 0)


async def test_records_that_exist_were_passed_over(ledger: LedgerRow) -> None:
    with pytest.raises(HoleError, match="expected 10, was given 12"):
        await check(ledger, 12, first=0)
    assert ledger.lost == 0


async def test_records_that_kafka_dropped_are_lost(ledger: LedgerRow) -> None:
    await check(ledger, 12, first=12)
    assert (ledger.offset, ledger.lost) == (11, 2)


async def test_some_dropped_and_some_passed_over(ledger: LedgerRow) -> None:
    with pytest.raises(HoleError, match="expected 12, was given 15"):
        await check(ledger, 15, first=12)
    assert ledger.lost == 2


async def test_a_first_record_above_zero_is_lost_too() -> None:
    ledger = empty_ledger()
    await check(ledger, 5, first=5)
    assert ledger.lost == 5
