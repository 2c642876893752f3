"""Finds environment variables that are probably misspelled settings."""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import NamedTuple

SIMILAR = 0.87
"""Minimum similarity from 0 to 1: RETENTION_HOUR matches RETENTION_HOURS, HOSTNAME does not match
HOST."""
SHORTEST = 6
"""Minimum length of a name; shorter ones resemble too many others, such as HOST and HOME."""

_PREFIX = "KAFKA_"
_OF_OTHERS = re.compile(
    # Set by Kubernetes and Docker for a service named `kafka`, or used by Kafka's own scripts.
    r"KAFKA_(?:\w*SERVICE_(?:HOST|PORT)\w*|\w*PORT(?:_\d+_\w+)?|\w*(?:OPTS|HOME|VERSION))"
)


class Misspelling(NamedTuple):
    """A variable that no service uses; `meant` is the most similar setting, if any."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        return f"{self.name} ({self.meant}?)" if self.meant else self.name


def misspellings(known: Collection[str], environ: Collection[str]) -> Iterator[Misspelling]:
    """Find variables that resemble a known setting, or start with KAFKA_."""
    for name in sorted(set(environ) - set(known)):
        upper = name.upper()
        if _OF_OTHERS.fullmatch(upper):
            continue
        meant = get_close_matches(upper, known, n=1, cutoff=SIMILAR)
        if len(name) >= SHORTEST and meant:
            yield Misspelling(name, meant[0])
        elif upper.startswith(_PREFIX):
            yield Misspelling(name, None)
