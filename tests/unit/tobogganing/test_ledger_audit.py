"""The audit counts as the processor does, and describes differences."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.frame import Submission, encode_frame
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from tobogganing.cli.ledger import audit_remarks
from tobogganing.ledger_audit import LedgerRecount

NOW = 1_700_000_000_000
values = st.one_of(
    st.none(),
    st.sampled_from([b"", b"rubbish", b'{"version":2}', b'{"version":1}', b"[" * 5000]),
    st.builds(
        encode_frame,
        st.sampled_from([NOW - 1, NOW + 1]),
        st.lists(
            st.builds(
                Submission,
                kind=st.sampled_from(["client", "gizmo"]),
                id=st.sampled_from(["a", "b"]),
                incarnation=st.integers(1, 2),
            ),
            max_size=4,
        ),
    ),
)


@given(st.lists(values, max_size=12))
def test_it_counts_as_the_processor_does(log: list[bytes | None]) -> None:
    batch = WriteBatch(PartitionState(0))
    counted = LedgerRecount(0, first=0, end=len(log))
    for offset, value in enumerate(log):
        reduce_frame(batch, Record(0, offset, NOW, value), 1)
        counted.count(value, NOW)
    ledger = batch.ledger
    booked = {"read": ledger.read, "late": ledger.late, "dead_lettered": ledger.dead_lettered}
    assert counted.differences({"offset": ledger.offset, **booked}) == []
    assert counted.records == len(log)


def booked(read: int = 0, late: int = 0, dead_lettered: int = 0) -> dict[str, Any]:
    return {
        "partition": 0, "offset": 9, "read": read, "late": late, "dead_lettered": dead_lettered,
    }  # fmt: skip


def recount(first: int = 0, **counts: Any) -> LedgerRecount:
    return LedgerRecount(0, first, 10, **counts)


@pytest.mark.parametrize(
    ("counted", "ledger", "words"),
    [
        (recount(submissions=5), booked(read=5), []),
        (recount(submissions=5), booked(read=6), ["submissions: 5 in the topic, 6 in"]),
        (recount(submissions=5), booked(read=4), ["submissions: 5 in the topic, 4 in"]),
        (
            recount(submissions=5, late=1),
            booked(read=5),
            ["late submissions: 1 in the topic, 0"],
        ),
        (
            recount(submissions=5, undecodable=2),
            booked(read=5, dead_lettered=1),
            ["2 frames cannot be decoded, but the ledger has 1 dead"],
        ),
        (recount(first=3, submissions=5), booked(read=900, late=3), []),
        (recount(first=3, submissions=5), booked(read=4), ["submissions: 5 in the topic, 4"]),
        (recount(missing=True), booked(read=5), ["the topic ends before offset 9"]),
    ],
)
def test_differences_are_described(
    counted: LedgerRecount, ledger: dict[str, Any], words: list[str]
) -> None:
    found = counted.differences(ledger)
    assert len(found) == len(words)
    for said, expected in zip(found, words, strict=True):
        assert expected in said
    assert counted.document(ledger)["agrees"] == (not words)


def test_the_first_comparable_offset_is_named() -> None:
    shown = {"partitions": [booked(read=9)]}
    assert audit_remarks(shown, {0: recount(submissions=9)}) == []
    [line] = audit_remarks(shown, {0: recount(first=3, submissions=5)})
    assert line.startswith("partition 0 can be compared from offset 3 on")
