"""Shards: several exporters, each with its part of the partitions."""

from dataclasses import dataclass
from typing import Self

SHARD_PATTERN = r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$"


@dataclass(frozen=True)
class Shard:
    """One of `count` exporters that show everything together; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2/10`: the second of ten.

        Raises:
            ValueError: there is no such shard.
        """
        number, count = map(int, text.split("/"))
        if number > count:
            raise ValueError(f"there is no shard {number} of {count}")
        return cls(number, count)

    @property
    def is_first(self) -> bool:
        """Whether it also shows what is there once, whatever the number of shards."""
        return self.number == 1

    def partitions(self, total: int) -> tuple[int, ...]:
        """Its partitions, of `total`."""
        return tuple(range(self.number - 1, total, self.count))
