"""Times as commands accept and print them: `15m` ago, a date and time, or a duration."""

import re
from datetime import UTC, datetime

import click

_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(text: str, now: float) -> int:
    """Milliseconds since the epoch of `90s`, `15m`, `2h` or `3d` before `now`, or of RFC 3339.

    A time without a zone is UTC.

    Raises:
        ValueError: the text is neither.
    """
    if match := _AGO.fullmatch(text):
        return round((now - int(match[1]) * _SECONDS[match[2]]) * 1000)
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `15m`, `2h` or `3d`.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _AGO.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _SECONDS[match[2]]


def format_time(milliseconds: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _ParsedParam(click.ParamType):
    """The type of an option whose text `parse` converts to a number."""

    hint: str
    """What is wrong with an invalid text."""

    def parse(self, text: str) -> int:
        raise NotImplementedError

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return self.parse(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is {self.hint}", param, ctx)


class TimeParam(_ParsedParam):
    """The type of an option with a time; its value is in milliseconds since the epoch."""

    name = "TIME"
    hint = "not a time: write 15m, 2h, 3d or 2030-01-31T12:00:00Z"

    def parse(self, text: str) -> int:
        return parse_time(text, datetime.now(UTC).timestamp())


class DurationParam(_ParsedParam):
    """The type of an option that takes a duration; its value is in seconds."""

    name = "DURATION"
    hint = "not a duration: write 90s, 15m, 2h or 7d"

    def parse(self, text: str) -> int:
        return parse_duration(text)
