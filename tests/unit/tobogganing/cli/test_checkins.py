"""Check-ins in the terminal: ages, remarks and filters."""

from typing import Any

import click
import pytest

from tobogganing.cli.checkins import age, write_checkin
from tobogganing.cli.resources import checkin_filters
from tobogganing.cli.status import remarks

CURRENT: dict[str, Any] = {
    "as_of": "2026-11-28T12:03:00.000Z",
    "is_current": True,
    "seconds_late": 0.0,
    "submissions_per_second": None,
    "waiting_for": [],
    "shard": "1/1",
    "total_clients": 1,
    "total_headends": 0,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (86_460, "1 d 1 min"),
    ],
)
def test_an_age_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"is_current": False, "seconds_late": 70.0}, "states as of 2026-11-28T12:03:00.000Z"),
        ({"waiting_for": ["kafka", "registry"]}, "waiting for kafka, registry"),
        ({"submissions_per_second": 12.5}, "12.5 submissions a second"),
        ({"shard": "2/3"}, "only the entities of shard 2/3"),
        ({"total_clients": 0}, "nothing is registered yet"),
    ],
)
def test_status_says_what_limits_its_numbers(changed: dict[str, Any], part: str) -> None:
    (line,) = remarks(CURRENT | changed)
    assert part in line
    assert remarks(CURRENT) == []


def test_options_become_parameters_of_the_exporter() -> None:
    options = {"name": "ada", "type": "native", "cluster_id": "fra"}
    assert checkin_filters(options, ("late", "never")) == {
        "q": "ada",
        "type": "native",
        "cluster": "fra",
        "state": "late,never",
    }
    with pytest.raises(click.UsageError):
        checkin_filters({"enrolment_id": "e"}, ())


def test_an_entity_that_never_reported_has_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    checkin: dict[str, Any] = {
        "state": "never",
        "last_check_in": None,
        "age_seconds": None,
        "values": [],
    }
    why = {"kind": "client", "id": "a", "text": "T.", "next_step": "Do.", "evidence": []}
    write_checkin({"checkin": checkin, "why": why})
    shown = capsys.readouterr().out.split("\n")
    assert shown[1:4] == ["state          never", "last_check_in", "age            never"]
    assert shown[5:7] == ["why        T.", "next_step  Do."]
