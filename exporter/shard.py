"""Shards: several exporters that divide the partitions among them."""

from dataclasses import dataclass
from typing import Self

SHARD_PATTERN = r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$"


@dataclass(frozen=True)
class Shard:
    """One of `count` exporters that together export everything; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `2/10`: the second of ten.

        Raises:
            ValueError: there is no such shard.
        """
        number, count = map(int, text.split("/"))
        if number > count:
            raise ValueError(f"there is no shard {number} of {count}")
        return cls(number, count)

    @property
    def is_first(self) -> bool:
        """Whether this shard also exports what exists once, whatever the number of shards."""
        return self.number == 1

    def partitions(self, total: int) -> tuple[int, ...]:
        """Return this shard's share of `total` partitions."""
        return tuple(range(self.number - 1, total, self.count))
