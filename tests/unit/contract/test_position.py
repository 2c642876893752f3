"""Positions and receipts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.position import Position, Receipt

small = st.integers(0, 10**9 - 1)


@given(small, st.integers(0, 10**18 - 1), small)
def test_a_receipt_round_trips(partition: int, offset: int, index: int) -> None:
    receipt = Receipt(partition, offset, index)
    assert Receipt.parse(str(receipt)) == receipt


@pytest.mark.parametrize(
    "text",
    ["", "1-2", "1-2-3-4-5", "-1-2-3", "1--2-3", "a-b-c", "1-2-3\n", "٣-1-1", "1-2-" + "9" * 30],
)
def test_a_malformed_receipt_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not a receipt"):
        Receipt.parse(text)


def test_positions_compare_in_kafkas_order() -> None:
    assert Position(1, 5) < Position(2, 0) < Position(2, 1)
