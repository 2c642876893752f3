"""Repair: what overwrites a foreign record, and when the worker must stop."""

from typing import Any

import pytest

from contract.ledger import LedgerRow, encode_ledger_row, ledger_key
from contract.position import NO_POSITION, Position
from contract.row import ROW_VERSION
from processor.changelog.repair import FencedError, resolve
from processor.core.partition_state import PartitionState
from processor.core.write_batch import Tombstone
from tests.unit.processor.core.test_partition_state import KEY, header, row


class ForeignRecord:
    """A changelog record that this worker did not write."""

    def __init__(self, value: bytes | None, headers: Any = (), key: bytes = KEY) -> None:
        self.key, self.value, self.headers, self.offset = key, value, headers, 77


def holding(offset: int | None, ledger: int = 9) -> PartitionState:
    state = PartitionState(0)
    if offset is not None:
        state.apply(KEY, row(offset), [])
    state.ledger.offset = ledger
    return state


def test_an_older_row_is_overwritten() -> None:
    change = resolve(holding(5), ForeignRecord(row(4)))
    assert change == row(5)


def test_the_same_row_is_not_overwritten() -> None:
    assert resolve(holding(5), ForeignRecord(row(5))) is None


def test_a_newer_row_ends_the_worker() -> None:
    with pytest.raises(FencedError):
        resolve(holding(5), ForeignRecord(row(6)))


def test_an_undecodable_row_is_overwritten() -> None:
    change = resolve(holding(5), ForeignRecord(b"rubbish"))
    assert change == row(5)


def test_a_foreign_tombstone_of_a_live_row_is_overwritten() -> None:
    change = resolve(holding(5), ForeignRecord(None, header(5)))
    assert change == row(5)


def test_an_expired_row_is_removed_again() -> None:
    change = resolve(holding(None, ledger=9), ForeignRecord(row(4)))
    assert change == Tombstone(Position(4, 0))


def test_an_unknown_row_after_the_ledger_ends_the_worker() -> None:
    with pytest.raises(FencedError):
        resolve(holding(None, ledger=9), ForeignRecord(row(10)))


def test_a_tombstone_without_a_row_is_ignored() -> None:
    assert resolve(holding(None), ForeignRecord(None, header(4))) is None


@pytest.mark.parametrize(("offset", "ends"), [(8, False), (9, False), (10, True)])
def test_a_newer_ledger_ends_the_worker(offset: int, ends: bool) -> None:
    foreign = ForeignRecord(encode_ledger_row(LedgerRow(ROW_VERSION, offset)), key=ledger_key(0))
    if ends:
        with pytest.raises(FencedError):
            resolve(holding(5, ledger=9), foreign)
    else:
        assert resolve(holding(5, ledger=9), foreign) is None


def test_the_ledger_of_another_partition_is_removed() -> None:
    foreign = ForeignRecord(encode_ledger_row(LedgerRow(ROW_VERSION, 10**6)), key=ledger_key(1))
    assert resolve(holding(5, ledger=9), foreign) == Tombstone(NO_POSITION)


def test_a_tombstone_of_an_undecodable_row_is_accepted() -> None:
    state = holding(None)
    state.rows[KEY] = b"rubbish"
    assert resolve(state, ForeignRecord(None)) == Tombstone(NO_POSITION)
