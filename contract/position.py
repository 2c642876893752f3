"""Positions: where in the submissions topic something was said, and the receipt that names it."""

import re
from typing import NamedTuple, Self


class Position(NamedTuple):
    """Place of a submission within its partition: the frame's offset, the index in the frame.

    Positions of one partition compare as Kafka ordered them.
    """

    offset: int
    index: int  # type: ignore[assignment]  # tuple.index is not what anybody wants here


BEFORE_ALL = Position(-1, -1)
"""Position of what was there before the topic: a restored row, an empty ledger."""

_RECEIPT = re.compile(r"(\d{1,9})-(\d{1,18})-(\d{1,9})", re.ASCII)


class Receipt(NamedTuple):
    """What a 200 answer names: `partition-offset-index` of the submission."""

    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # tuple.index is not what anybody wants here

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}-{self.index}"

    def behind(self, count: int) -> "Receipt":
        """Receipt of the submission so many places behind, in the same frame."""
        return Receipt(self.partition, self.offset, self.index + count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a receipt.

        Raises:
            ValueError: `text` is not one.
        """
        match = _RECEIPT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a receipt: expected partition-offset-index")
        return cls(*(int(number) for number in match.groups()))
