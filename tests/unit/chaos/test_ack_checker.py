"""The ack checker finds acknowledged submissions that are not in their record."""

import pytest

from contract.frame import Submission, encode_frame
from contract.position import Receipt
from tests.chaos.ack_checker import AckChecker

RECEIPT = Receipt(1, 7, 1)
BY = 1_000


def frame(*numbers: int) -> bytes:
    return encode_frame(
        BY, [Submission("client", f"c-{n}", 1, metrics={"a": n, "b": n}) for n in numbers]
    )


@pytest.fixture
def answered() -> AckChecker:
    answered = AckChecker()
    answered.add(RECEIPT, "client:c-5", 5)
    return answered


def test_an_existing_submission_is_not_missing(answered: AckChecker) -> None:
    answered.add(RECEIPT._replace(index=0), "client:c-4", 4)
    answered.check(1, 7, BY, frame(4, 5))
    assert (answered.missing(), answered.wrong) == ([], [])


@pytest.mark.parametrize(
    ("partition", "offset", "appended", "value"),
    [
        (0, 7, BY, frame(4, 5)),
        (1, 8, BY, frame(4, 5)),
        (1, 7, BY + 1, frame(4, 5)),
        (1, 7, BY, frame(5, 4)),
        (1, 7, BY, frame(4, 6)),
        (1, 7, BY, frame(5)),
        (1, 7, BY, b"rubbish"),
        (1, 7, BY, None),
    ],
    ids=["partition", "offset", "late", "order", "number", "short", "rubbish", "nothing"],
)
def test_a_wrong_or_absent_submission_is_missing(
    answered: AckChecker, partition: int, offset: int, appended: int, value: bytes | None
) -> None:
    answered.check(partition, offset, appended, value)
    assert answered.missing() == ["client:c-5 5 is not at 1-7-1"]


def test_an_unchecked_submission_is_missing(answered: AckChecker) -> None:
    assert answered.missing() != []


def test_one_receipt_for_two_submissions_is_wrong(answered: AckChecker) -> None:
    answered.add(RECEIPT, "client:c-6", 6)
    assert answered.wrong != []
