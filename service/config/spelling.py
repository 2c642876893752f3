"""Variables of the environment that look like settings and are not."""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import NamedTuple

SIMILAR = 0.87
"""Least similarity, of 1: RETENTION_HOUR is RETENTION_HOURS, and HOSTNAME is not HOST."""
SHORTEST = 6
"""Shorter names resemble too many others, such as HOST and HOME."""

_PREFIX = "KAFKA_"
_OF_OTHERS = re.compile(
    # Kubernetes and Docker describe a service named `kafka` so, and Kafka's scripts read the rest.
    r"KAFKA_(?:\w*SERVICE_(?:HOST|PORT)\w*|\w*PORT(?:_\d+_\w+)?|\w*(?:OPTS|HOME|VERSION))"
)


class Misspelling(NamedTuple):
    """A variable that no service knows; `meant` is the closest setting, if one is close."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        return f"{self.name} ({self.meant}?)" if self.meant else self.name


def misspellings(known: Collection[str], environ: Collection[str]) -> Iterator[Misspelling]:
    """Find variables that resemble a known setting, or begin as Kafka's settings do."""
    for name in sorted(set(environ) - set(known)):
        upper = name.upper()
        if _OF_OTHERS.fullmatch(upper):
            continue
        meant = get_close_matches(upper, known, n=1, cutoff=SIMILAR)
        if len(name) >= SHORTEST and meant:
            yield Misspelling(name, meant[0])
        elif upper.startswith(_PREFIX):
            yield Misspelling(name, None)
