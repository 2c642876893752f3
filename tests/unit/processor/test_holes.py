"""Holes: nothing is passed over unseen."""

import pytest

from contract.row import LedgerRow, empty_ledger
from processor.holes import Ahead, HoleError, check_hole


async def check(ledger: LedgerRow, offset: int, first: int, record: int | None) -> None:
    """Check an event at `offset`; Kafka has deleted what is before `first`."""

    async def look_ahead(partition: int, expected: int) -> Ahead:
        assert partition == 3
        assert expected == ledger.offset + 1
        return Ahead(first, record, 100)

    await check_hole(ledger, 3, offset, look_ahead)


@pytest.fixture
def ledger() -> LedgerRow:
    ledger = empty_ledger()
    ledger.offset = 9
    return ledger


@pytest.mark.parametrize("offset", [0, 9, 10])
async def test_the_next_and_replays_pass(ledger: LedgerRow, offset: int) -> None:
    await check(ledger, offset, first=0, record=0)
    assert (ledger.offset, ledger.lost) == (9, 0)


async def test_records_that_exist_were_passed_over(ledger: LedgerRow) -> None:
    with pytest.raises(HoleError, match="expected 10, was given 12"):
        await check(ledger, 12, first=0, record=10)
    assert ledger.lost == 0


async def test_offsets_at_which_no_record_is_are_no_loss(ledger: LedgerRow) -> None:
    await check(ledger, 12, first=0, record=12)
    assert (ledger.offset, ledger.lost) == (11, 0)


async def test_a_record_behind_a_marker_was_passed_over(ledger: LedgerRow) -> None:
    with pytest.raises(HoleError, match="expected 11, was given 12"):
        await check(ledger, 12, first=0, record=11)


async def test_records_that_kafka_dropped_are_lost(ledger: LedgerRow) -> None:
    await check(ledger, 12, first=12, record=12)
    assert (ledger.offset, ledger.lost) == (11, 2)


@pytest.mark.parametrize("record", [17, None])
async def test_an_event_that_kafka_has_deleted_since_is_not_lost(
    ledger: LedgerRow, record: int | None
) -> None:
    await check(ledger, 12, first=17, record=record)
    assert (ledger.offset, ledger.lost) == (11, 2)


async def test_some_dropped_and_some_passed_over(ledger: LedgerRow) -> None:
    with pytest.raises(HoleError, match="expected 12, was given 15"):
        await check(ledger, 15, first=12, record=12)
    assert ledger.lost == 2


async def test_a_first_record_above_zero_is_lost_too() -> None:
    ledger = empty_ledger()
    await check(ledger, 5, first=5, record=5)
    assert ledger.lost == 5
