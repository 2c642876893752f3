"""Remarks about a ledger."""

from typing import Any

from tobogganing.cli.ledger import remarks, total


def partition(number: int, lag: int | None = 0, **counts: int) -> dict[str, Any]:
    fields = dict.fromkeys(("read", "applied", "stale", "late", "dead_lettered", "lost"), 0)
    return {"partition": number, "lag_records": lag, "balances": True} | fields | counts


def test_a_balanced_ledger_has_no_remarks() -> None:
    assert remarks([partition(0, read=6, applied=1, stale=1, late=1, dead_lettered=3)]) == []


def test_an_unbalanced_partition_is_named() -> None:
    assert remarks([partition(0, read=5, applied=3), partition(1, read=1, applied=2)]) == [
        "partition 0 does not balance: 5 submissions read, 3 with an outcome",
        "partition 1 does not balance: 1 submission read, 2 with an outcome",
    ]


def test_losses_and_an_unknown_lag_are_named() -> None:
    lines = remarks([partition(0, lost=2), partition(1, lag=None, lost=1)])
    assert lines[0].startswith("lost: 3 records")
    assert lines[1].startswith("the lag is unknown")


def test_the_total() -> None:
    partitions = [partition(0, 3, read=5, applied=5), partition(1, 1, read=2, stale=2)]
    summed = total({"partitions": partitions, "balances": True})
    assert (summed["read"], summed["applied"], summed["stale"]) == (7, 5, 2)
    assert summed["lag_records"] == 4
    partitions[0]["lag_records"] = None
    assert total({"partitions": partitions, "balances": True})["lag_records"] is None
