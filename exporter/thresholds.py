"""Thresholds between the states of check-ins."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Ages of the last check-in in seconds: online below `online`, late below `late`."""

    online: float
    late: float
