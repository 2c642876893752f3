"""What became of an import: counts, and what its user has to know. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract.registry import CLUSTER
from tobogganing.fleet_import.fleet_entry import COLLECTIONS
from tobogganing.fleet_import.fleet_file import BadLine

SHOWN = 20
"""Refusals that are kept; the others are counted."""
NAMED = 5
"""Entries that one line of a report names."""


@dataclass
class ImportReport:
    """Entries are named as `kind:id`."""

    total: int
    registered: Counter[str] = field(default_factory=Counter)
    """Kind -> those that this import has registered."""
    already_registered: list[str] = field(default_factory=list)
    """Whose ids were taken."""
    unconfirmed: list[str] = field(default_factory=list)
    """Who may have been registered by an attempt that was not confirmed: the key is not known."""
    lost: list[str] = field(default_factory=list)
    """Whose keys could not be written down."""
    refused: list[BadLine] = field(default_factory=list)
    """The first of those that the gateway refused."""
    refused_count: int = 0
    fault: str = ""
    """Why it ended early, if it did by itself."""
    seconds: float = 0.0

    @property
    def remaining(self) -> int:
        """Entries that were not tried, or not to the end."""
        known = (
            len(self.already_registered)
            + len(self.unconfirmed)
            + len(self.lost)
            + self.refused_count
        )
        return self.total - self.registered.total() - known

    @property
    def is_good(self) -> bool:
        """Tell whether everything is registered, and every key that was given is written down."""
        return not (self.remaining or self.refused_count or self.unconfirmed or self.lost)

    def refuse(self, number: int, answer: str) -> None:
        self.refused_count += 1
        if len(self.refused) < SHOWN:
            self.refused.append(BadLine(number, answer))

    def without_key(self, holders: Collection[str]) -> list[str]:
        """Those registered before whose keys are not among those of `holders`."""
        return [
            key
            for key in self.already_registered
            if key not in holders and not key.startswith(f"{CLUSTER}:")
        ]

    def document(self, without_key: Sequence[str]) -> dict[str, Any]:
        """What `--json` answers."""
        return {
            "registered": {
                collection: self.registered[kind] for kind, collection in COLLECTIONS.items()
            },
            "registered_before": len(self.already_registered),
            "without_key": without_key,
            "unsure": self.unconfirmed,
            "lost": self.lost,
            "refused": self.refused_count,
            "left": self.remaining,
            "seconds": round(self.seconds, 1),
        }

    def lines(self, without_key: Sequence[str]) -> Iterator[str]:
        """The same for people."""
        count = self.registered.total()
        rate = count / max(self.seconds, 0.001)
        yield f"registered {count:,} of {self.total:,} in {self.seconds:.1f} s ({rate:,.0f}/s)"
        if self.already_registered:
            yield f"registered before: {len(self.already_registered):,}"
        if without_key:
            yield f"of these have no key in the file of credentials: {_named(without_key)}"
        if self.unconfirmed:
            yield f"perhaps registered, without a known key: {_named(self.unconfirmed)}"
        if self.lost:
            yield f"registered, but the key is lost: {_named(self.lost)}"
        if without_key or self.unconfirmed or self.lost:
            yield "`tobogganing clients rotate ID` and `headends rotate ID` give new keys"
        for number, answer in self.refused:
            yield f"refused, line {number}: {answer}"
        if self.refused_count > len(self.refused):
            yield f"refused: {self.refused_count:,} in all"
        if self.remaining:
            yield f"left: {self.remaining:,}; the same command again registers them"


def _named(keys: Sequence[str]) -> str:
    more = "" if len(keys) <= NAMED else ", …"
    return f"{len(keys):,} ({', '.join(keys[:NAMED])}{more})"
