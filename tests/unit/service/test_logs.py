"""Logs: no message of this project is dropped, messages of libraries are not repeated."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service.config.settings import LogSettings
from service.logs import configure_logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_logs_are_one_json_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(log_format="json"), "gateway")
    structlog.get_logger("gateway.x").info("done", count=3)
    (line,) = lines(capsys)
    assert (line["event"], line["count"], line["service"]) == ("done", 3, "gateway")


def test_values_that_orjson_cannot_encode_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(log_format="json"), "gateway")
    values = {"surrogate": "\udc80", "large": 2**80, "object": ValueError("x"), "bytes": b"\xff"}
    structlog.get_logger("gateway.x").info("done", **values)
    (line,) = lines(capsys)
    assert line["surrogate"] == "\udc80"
    assert line["large"] == 2**80
    assert "ValueError" in line["object"]


def test_repeated_messages_of_libraries_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(log_format="json"), "gateway")
    library, ours = (
        logging.getLogger("aiokafka.conn"),
        logging.getLogger("gateway.produce.batcher"),
    )
    for number in range(5):
        library.warning("Unable to connect to node %s", number)
        library.warning("Another message")
        ours.warning("ours")
    events = [line["event"] for line in lines(capsys)]
    assert events.count("Unable to connect to node 0") == 1
    assert events.count("Another message") == 1
    assert events.count("ours") == 5
    assert len(events) == 7
