"""Thresholds between the states of check-ins."""

from typing import NamedTuple


class Thresholds(NamedTuple):
    """Ages of the last check-in in seconds: online below `online`, late below `late`."""

    online: float
    late: float
