"""Configures logging: one JSON object per line in services, readable lines on a terminal."""

import json
import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from service.config.settings import LogSettings

_NOISY = ("aiokafka", "kafka", "faust", "mode", "uvicorn", "asyncio")


THROTTLE_SECONDS = 10.0
"""Seconds for which a library's message is not repeated; aiokafka logs a missing broker 20 times a
second."""


class _Throttle(logging.Filter):
    """Drops repetitions of a library's message, whatever its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._last_logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _NOISY:
            return True
        message = (record.name, str(record.msg))
        if record.created - self._last_logged.get(message, 0.0) < THROTTLE_SECONDS:
            return False
        if len(self._last_logged) > 1000:  # messages that were formatted before they were logged
            self._last_logged.clear()
        self._last_logged[message] = record.created
        return True


def configure_logs(settings: LogSettings, service: str) -> None:
    """Send all log lines of the process to stderr, with the service's name."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Neither renderer shows local variables of exceptions, because they contain credentials.
    last: list[structlog.types.Processor] = (
        [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _ordered_keys(service),
            structlog.processors.JSONRenderer(_to_json),
        ]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _NOISY:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(root.level, logging.WARNING))


def _to_json(event: dict[str, Any], default: Any) -> str:
    """Encode a line with orjson, because a registering fleet logs thousands of lines a second."""
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:  # not UTF-8, or a number above 64 bits
        return json.dumps(event, default=default)


def _ordered_keys(service: str) -> structlog.types.Processor:
    """Return a processor that puts the important keys first, and adds the service's name."""

    def ordered(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
        return {**first, "service": service, **event}

    return ordered
