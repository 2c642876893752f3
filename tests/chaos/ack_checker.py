"""What was answered 200, one by one: each must be where its receipt says, in time. Pure."""

from collections import defaultdict

from contract.frame import Frame, FrameError, decode_frame, entity_key
from contract.position import Receipt


class AckChecker:
    """Submissions by the record that their receipts name, until that record was looked at."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._claims: defaultdict[tuple[int, int], dict[int, str]] = defaultdict(dict)

    def add(self, receipt: Receipt, key: str, number: int) -> None:
        """Take note of an answer: this receipt for the submission of this number."""
        claims = self._claims[receipt.partition, receipt.offset]
        if receipt.index in claims:
            self.wrong.append(f"{receipt} is of {claims[receipt.index]} and of {key} {number}")
        claims[receipt.index] = f"{key} {number}"

    def check(self, partition: int, offset: int, appended: int, value: bytes | None) -> None:
        """Look for what was claimed to be in a record."""
        claims = self._claims.pop((partition, offset), None)
        if claims is None:
            return
        found: dict[int, str] = {}
        try:
            frame = decode_frame(value or b"")
        except FrameError:
            pass
        else:
            if not frame.is_late(appended):
                found = dict(enumerate(_said(frame)))
        if left := {index: what for index, what in claims.items() if found.get(index) != what}:
            self._claims[partition, offset] = left

    def missing(self) -> list[str]:
        """What is not where its receipt says."""
        return [
            f"{what} is not at {partition}-{offset}-{index}"
            for (partition, offset), claims in self._claims.items()
            for index, what in claims.items()
        ]


def _said(frame: Frame) -> list[str]:
    """Key and number of each submission, which has its number in all its metrics."""
    return [
        f"{entity_key(each.kind, each.id).decode()} "
        + ",".join(f"{number:g}" for number in sorted(set(each.metrics.values())))
        for each in frame.submissions
    ]
