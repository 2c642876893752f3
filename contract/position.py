"""Positions: where in the submissions topic something was said, and the receipt that names it."""

import re
from typing import NamedTuple, Self


class Position(NamedTuple):
    """Place of a submission within its partition: the frame's offset, the index in the frame.

    Positions of one partition compare as Kafka ordered them.
    """

    offset: int
    index: int  # type: ignore[assignment]  # tuple.index is not what anybody wants here


NO_POSITION = Position(-1, -1)
"""Position of what was there before the topic: a restored row, an empty ledger."""

NO_TIME = -1
"""Append time of a receipt that does not say it: gateways of the version before gave none."""

_RECEIPT = re.compile(r"(\d{1,9})-(\d{1,18})-(\d{1,9})(?:-(\d{1,18}))?", re.ASCII)


class Receipt(NamedTuple):
    """What a 200 response names: `partition-offset-index-appended` of the submission.

    `offset` is Kafka's own. It may be used twice, if Kafka loses the end of its log: so the append
    time of the frame, in milliseconds, says which of two records is meant.
    """

    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # tuple.index is not what anybody wants here
    appended: int = NO_TIME

    def __str__(self) -> str:
        place = f"{self.partition}-{self.offset}-{self.index}"
        return place if self.appended == NO_TIME else f"{place}-{self.appended}"

    def advance(self, count: int) -> "Receipt":
        """Receipt of the submission so many places behind, in the same frame."""
        return self._replace(index=self.index + count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a receipt.

        Raises:
            ValueError: `text` is not one.
        """
        match = _RECEIPT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a receipt: expected partition-offset-index-appended")
        return cls(*(NO_TIME if number is None else int(number) for number in match.groups()))
