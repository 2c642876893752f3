"""Chooses and formats the log lines of services for a terminal: warnings, one line for each reason.

Everything else, such as one line for each registration, is only in the files. So are the lines of
libraries: the services say in their own words what an operator needs to know.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

REPEAT_AFTER = 10.0
"""Seconds in which lines with one reason are counted instead of written."""
REASONS = 1000
LONGEST = 300
SHOWN_LEVELS = ("warning", "error", "critical")
_HIDDEN = ("timestamp", "level", "event", "service", "logger", "exception", "stack")
LIBRARIES = frozenset(("aiokafka", "asyncio", "faust", "kafka", "mode", "uvicorn"))
"""First parts of the names of their loggers."""
BUSY = re.compile(r"Thread keepalive is not responding|Timer .* (is overlapping|woke up too)")
"""What mode logs if a process gets too little CPU time."""
_HEXADECIMAL = re.compile(r"[0-9a-f]+")


def _without_digits(word: "re.Match[str]") -> str:
    """Replace a number or an id, which do not make a reason a different one."""
    return "#" if any(map(str.isdigit, word[0])) else word[0]


@dataclass
class _Reason:
    name: str
    shown_at: float
    line: str
    repetitions: int = 0


class TerminalLines:
    """Not thread-safe; `now` returns seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._reasons: dict[tuple[str, str], _Reason] = {}

    def shown(self, name: str, line: str) -> str | None:
        """What to write now for a log line of the part `name`; None for nothing."""
        text = _format(line)
        if text is None:
            return None
        key = (name, _HEXADECIMAL.sub(_without_digits, text))
        if known := self._reasons.get(key):
            known.repetitions += 1
            known.line = text
            return None
        if len(self._reasons) >= REASONS:
            self._reasons.clear()
        self._reasons[key] = _Reason(name, self._now(), text)
        return text

    def repeated(self, *, all: bool = False) -> list[tuple[str, str]]:
        """(part, line) of reasons that came again, once for each REPEAT_AFTER seconds."""
        lines = []
        for key, reason in list(self._reasons.items()):
            if not all and self._now() < reason.shown_at + REPEAT_AFTER:
                continue
            if reason.repetitions:
                lines.append((reason.name, f"{reason.line} ({reason.repetitions} more)"))
                reason.repetitions, reason.shown_at = 0, self._now()
            else:
                del self._reasons[key]
        return lines


def _format(line: str) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        # An uncaught exception: the lines of its stack are only in the file.
        is_stack = line.startswith((" ", "\t", "Traceback ")) or not line.strip()
        return None if is_stack else line[:LONGEST]
    level = event.get("level")
    if level not in SHOWN_LEVELS:
        return None
    if (library := str(event.get("logger")).partition(".")[0]) in LIBRARIES:
        return _library_line(library, event)
    details = [f"{name}={_value(event[name])}" for name in event if name not in _HIDDEN]
    details += _exception(event)
    text = f"{level}: {event.get('event')}" + (f" ({', '.join(details)})" if details else "")
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _library_line(library: str, event: Mapping[str, Any]) -> str | None:
    if BUSY.search(str(event.get("event"))):
        return "warning: the machine is busy: this service gets too little CPU time"
    if faults := _exception(event):
        return f"{event['level']}: unexpected error in {library}: {faults[0]}"[:LONGEST]
    return None


def _exception(event: Mapping[str, Any]) -> list[str]:
    """The type and text of an exception, without its stack."""
    match event.get("exception"):
        case [*_, {"exc_type": kind, "exc_value": value}]:
            return [f"{kind}: {_value(value)}"]
    return []


def _value(value: object) -> str:
    return " ".join(str(value).split())
