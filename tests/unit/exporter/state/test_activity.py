"""Half-hours with check-ins: at most 24 h, and unknown before the exporter's start."""

import numpy as np

from exporter.state.activity import LENGTH, SECONDS, Activity

START = 1_700_000_000.0 // SECONDS * SECONDS + 60


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def shown(activity: Activity) -> str:
    marks = {None: "?", True: "#", False: "."}
    return "".join(marks[each.checked_in] for each in activity.of(0)).lstrip("?")


def mark(activity: Activity, checked_in: float) -> None:
    activity.mark(np.array([0]), np.array([checked_in]))


def test_half_hours_with_and_without_check_ins() -> None:
    clock = Clock()
    activity = Activity(clock)
    activity.add_slot()
    assert shown(activity) == ""
    mark(activity, START)
    clock.now += 3 * SECONDS
    assert shown(activity) == "#..?", "the current one is still going on"
    mark(activity, clock.now)
    mark(activity, clock.now - SECONDS)
    assert shown(activity) == "#.##"


def test_a_check_in_from_before_the_start_is_shown_and_the_rest_is_unknown() -> None:
    activity = Activity(Clock())
    activity.add_slot()
    mark(activity, START - 3 * SECONDS)
    assert shown(activity) == "#???"


def test_bits_are_used_again_after_a_day() -> None:
    clock = Clock()
    activity = Activity(clock)
    activity.add_slot()
    mark(activity, START)
    clock.now += (LENGTH - 1) * SECONDS
    assert shown(activity) == "#" + "." * (LENGTH - 2) + "?"
    clock.now += SECONDS
    assert shown(activity) == "." * (LENGTH - 1) + "?"
    clock.now += 1000 * LENGTH * SECONDS
    mark(activity, START)
    assert shown(activity) == "." * (LENGTH - 1) + "?"


def test_a_slot_that_is_used_again_begins_without_check_ins() -> None:
    activity = Activity(Clock())
    activity.add_slot()
    mark(activity, START)
    activity.clear(0)
    assert shown(activity) == ""
