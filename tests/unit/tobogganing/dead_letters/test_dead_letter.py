"""Dead letters and times in the output of commands."""

import pytest

from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME, DeadLetterSource, encode_source
from tobogganing.dead_letters.dead_letter import (
    DeadLetterFilter,
    DeadLetterId,
    DeadLetterRecord,
    content,
    pretty,
    to_dead_letter,
)
from tobogganing.time_param import format_time, parse_time

NOW = 1.7e9


def letter(index: int = 0, reason: str = "not a frame: x", written: int = 5) -> DeadLetterRecord:
    source = DeadLetterSource(reason, 17, index, 4)
    return to_dead_letter(DeadLetterId(2, 9), written, encode_source(source), b"value")


@pytest.mark.parametrize(
    ("index", "source"),
    [
        (0, "2-17-0-4"),
        (3, "2-17-3-4"),
        (WHOLE_FRAME, "frame 2-17"),
        (CORRUPT_ROW, "a row, found at 2-17"),
    ],
)
def test_the_source_of_a_dead_letter(index: int, source: str) -> None:
    assert letter(index).source == source


def test_a_record_without_a_source_is_shown() -> None:
    odd = to_dead_letter(DeadLetterId(2, 9), 5, [], None)
    assert odd.source == "unknown"
    assert odd.document()["reason"].startswith("invalid dead-letter headers")
    assert odd.value == b""


def test_filters() -> None:
    assert DeadLetterFilter().matches(letter())
    assert DeadLetterFilter(reason="NOT A").matches(letter())
    assert not DeadLetterFilter(reason="version").matches(letter())
    assert DeadLetterFilter(since=5).matches(letter(written=5))
    assert not DeadLetterFilter(since=6).matches(letter(written=5))


@pytest.mark.parametrize("text", ["", "1", "1-2-3", "a-1", "1-", "-1-2", "1-2\n", "1-" + "9" * 19])
def test_an_invalid_id(text: str) -> None:
    with pytest.raises(ValueError, match="not the id of a dead letter"):
        DeadLetterId.parse(text)


def test_an_id_is_parsed() -> None:
    assert str(DeadLetterId.parse("3-41")) == "3-41"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - 90),
        ("15m", NOW - 900),
        ("2h", NOW - 7200),
        ("3d", NOW - 3 * 86400),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14T23:13:20.5+01:00", NOW + 0.5),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert parse_time(text, NOW) == round(expected * 1000)


@pytest.mark.parametrize("text", ["", "5", "5w", "-5m", "yesterday", "2023-13-01"])
def test_an_invalid_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_time(text, NOW)


def test_a_formatted_time_is_parsed() -> None:
    assert parse_time(format_time(1700000000123), NOW) == 1700000000123


def test_bytes_cannot_write_to_the_terminal() -> None:
    for value in (b"\x1b[2J", b'{"a":"\\u001b\\u009b"}', b'"' + "\x9b".encode() + b'"', b"\xff"):
        assert pretty(value).replace("\n", "").isprintable()
    assert pretty(b'{"a":1}') == '{\n  "a": 1\n}'


def test_bytes_for_programs() -> None:
    assert content("ä".encode()) == {"value": "ä"}
    assert content(b"\xff") == {"value_base64": "/w=="}
