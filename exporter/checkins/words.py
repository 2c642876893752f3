"""Formats numbers and times for people. Pure."""

import re
from collections.abc import Callable
from typing import Any

from contract.kinds import REPLACEMENT

_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates of UAX #9."""
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def ago(seconds: float | None) -> str:
    """Format an age: `4 min ago`."""
    if seconds is None:
        return "never"
    if seconds < 0:
        return "in the future" if seconds < -60 else "just now"
    if seconds < 5:
        return "just now"
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """Format a number of seconds by its largest unit, or its two largest from an hour on."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        minutes = whole % 3600 // 60
        return f"{whole // 3600} h" + (f" {minutes} min" if minutes else "")
    hours = whole % 86_400 // 3600
    return f"{whole // 86_400:,} d" + (f" {hours} h" if hours else "")


def size(number: float) -> str:
    """Format a number of bytes with a decimal unit: `1.5 MB`."""
    value = float(number)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def count(number: float) -> str:
    return f"{number:,.0f}"


def percent(number: float) -> str:
    return f"{number:.1f} %"


def clock(moment: str) -> str:
    """Return hours and minutes of an RFC 3339 time."""
    return moment[11:16]


def date(moment: str) -> str:
    """Return the date of an RFC 3339 time."""
    return moment[:10]


def time(moment: str) -> str:
    """Return the hours, minutes and seconds of an RFC 3339 time."""
    return moment[11:19]


def exact(moment: str | None) -> str:
    """Format an RFC 3339 time to the second."""
    return "" if moment is None else f"{moment[:10]} {moment[11:19]} UTC"


def byte_rate(number: float) -> str:
    """Format a number of bytes per second."""
    return f"{size(number)}/s"


_VALUES: dict[str, Callable[[float], str]] = {
    "bytes": size,
    "byte rate": byte_rate,
    "duration": duration,
    "percent": percent,
    "count": count,
}


def value(number: float | None, format: str) -> str:
    """Format a value of a list; a dash if there is none."""
    return "–" if number is None else _VALUES[format](number)  # noqa: RUF001


def plain(text: str) -> str:
    """Replace characters that reorder text, by which a name could be read as another."""
    return _REORDERING.sub(REPLACEMENT, text)


def measured(number: float, metric: str) -> str:
    """Format a value by the unit in its metric's name."""
    if "bytes" in metric:
        return byte_rate(number) if "bandwidth" in metric else size(number)
    if metric.endswith("_seconds"):
        return duration(number)
    return percent(number) if metric.endswith("_percent") else count(number)


def rate(number: float, metric: str) -> str:
    """Format the growth per second of a counter."""
    return byte_rate(number) if "bytes" in metric else f"{number:,.1f}/s"


FILTERS: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "ago": ago,
    "duration": duration,
    "count": count,
    "clock": clock,
    "date": date,
    "time": time,
    "exact": exact,
    "value": value,
    "measured": measured,
    "rate": rate,
}
"""Filters of the templates."""
