"""Checks that every acknowledged submission is in the record that its receipt identifies. Pure."""

from collections import defaultdict

from contract.entity import entity_key
from contract.frame import Frame, FrameError, decode_frame
from contract.position import Receipt


class AckChecker:
    """Acknowledged submissions by record, until that record has been checked."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._claims: defaultdict[tuple[int, int], dict[int, str]] = defaultdict(dict)

    def add(self, receipt: Receipt, key: str, number: int) -> None:
        """Record an acknowledgement: the receipt of a submission and its number."""
        claims = self._claims[receipt.partition, receipt.offset]
        if receipt.index in claims:
            self.wrong.append(
                f"{receipt} identifies both {claims[receipt.index]} and {key} {number}"
            )
        claims[receipt.index] = f"{key} {number}"

    def check(self, partition: int, offset: int, appended: int, value: bytes | None) -> None:
        """Check the acknowledged submissions of a record."""
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
        """Return the acknowledged submissions that are not in their record."""
        return [
            f"{what} is not at {partition}-{offset}-{index}"
            for (partition, offset), claims in self._claims.items()
            for index, what in claims.items()
        ]


def _said(frame: Frame) -> list[str]:
    """Return key and number of each submission, which has its number in all metrics."""
    return [
        f"{entity_key(each.kind, each.id).decode()} "
        + ",".join(f"{number:g}" for number in sorted(set(each.metrics.values())))
        for each in frame.submissions
    ]
