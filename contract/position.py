"""Positions of submissions in the submissions topic, and the receipts that identify them."""

import re
from typing import NamedTuple, Self


class Position(NamedTuple):
    """Place of a submission in its partition: the frame's offset and the index in the frame.

    Positions of one partition compare in Kafka's order.
    """

    offset: int
    index: int  # type: ignore[assignment]  # hides tuple.index


NO_POSITION = Position(-1, -1)
"""Position before the start of the topic: of a restored row, or of an empty ledger."""

NO_TIME = -1
"""Append time of a receipt that has none, as issued by gateways of the previous version."""

_RECEIPT = re.compile(r"(\d{1,9})-(\d{1,18})-(\d{1,9})(?:-(\d{1,18}))?", re.ASCII)


class Receipt(NamedTuple):
    """Identifies the submission of a 200 response: `partition-offset-index-appended`.

    `offset` is Kafka's offset. Kafka uses it twice if it loses the end of its log, so the append
    time of the frame, in milliseconds, distinguishes the two records.
    """

    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    appended: int = NO_TIME

    def __str__(self) -> str:
        place = f"{self.partition}-{self.offset}-{self.index}"
        return place if self.appended == NO_TIME else f"{place}-{self.appended}"

    def advance(self, count: int) -> "Receipt":
        """Return the receipt of the submission `count` places later in the same frame."""
        return self._replace(index=self.index + count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a receipt.

        Raises:
            ValueError: `text` is not a receipt.
        """
        match = _RECEIPT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a receipt: expected partition-offset-index-appended")
        return cls(*(NO_TIME if number is None else int(number) for number in match.groups()))
