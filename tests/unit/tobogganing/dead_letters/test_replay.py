"""The submissions of a dead letter that can be replayed, and their timestamps."""

import pytest

from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME, DeadLetterSource
from contract.frame import Submission, encode_frame, encode_submission
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from tobogganing.dead_letters.dead_letter import DeadLetterId, DeadLetterRecord
from tobogganing.dead_letters.replay import (
    NotReplayableError,
    check_registered,
    key_of,
    split_submissions,
)

APPENDED = 1_700_000_000_123
A = Submission("client", "a", 1, metrics={"bytes_sent": 1})


def letter(value: bytes, index: int) -> DeadLetterRecord:
    return DeadLetterRecord(
        DeadLetterId(0, 0), APPENDED + 50, DeadLetterSource("r", 3, index, APPENDED), value
    )


def apart(value: bytes, index: int = WHOLE_FRAME) -> list[Submission]:
    return split_submissions(letter(value, index), value)


def test_the_append_time_becomes_the_timestamp() -> None:
    [single] = apart(encode_submission(A), index=4)
    assert single.timestamp == APPENDED / 1000
    timed = Submission("client", "b", 1, timestamp=5.0)
    found = apart(encode_frame(APPENDED, [A, timed]))
    assert [each.timestamp for each in found] == [APPENDED / 1000, 5.0]


@pytest.mark.parametrize(
    ("value", "index", "why"),
    [
        (b"rubbish", WHOLE_FRAME, "not a frame"),
        (b'{"version":9}', WHOLE_FRAME, "frame version 9"),
        (encode_frame(APPENDED - 1, [A]), WHOLE_FRAME, "after its deadline"),
        (b"rubbish", 0, "not a submission"),
        (b"[" * 100_000, 0, "not a submission"),
        (encode_submission(A), CORRUPT_ROW, "it is a row"),
        (encode_submission(A), CORRUPT_ROW - 1, "where it comes from"),
    ],
)
def test_skipped_dead_letters(value: bytes, index: int, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        apart(value, index)


@pytest.mark.parametrize(("kind", "id"), [("gizmo", "a"), ("client", "a b"), ("client", "")])
def test_unknown_entities(kind: str, id: str) -> None:
    with pytest.raises(NotReplayableError, match="not a known entity"):
        key_of(Submission(kind, id, 1))


def registry(generation: int, removed: bool = False) -> RegistryState:
    state = RegistryState()
    record = RegistryRecord(
        RECORD_VERSION, "client", "a", 1, "a", {"type": "native"}, incarnation=generation
    )
    record.removed = removed
    state.apply(9, record.key, encode_record(record))
    return state


def test_a_current_registration() -> None:
    check_registered(A, registry(1))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (RegistryState(), "no longer registered"),
        (registry(1, removed=True), "no longer registered"),
        (registry(2), "registered again"),
    ],
)
def test_a_registration_that_has_ended(state: RegistryState, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        check_registered(A, state)
    check_registered(Submission("client", "a", 1, removed=True), state)
