"""Silence lasts from the first that was sent after the last that was confirmed."""

import asyncio
import math

import pytest

from gateway.produce import ack_monitor as module
from gateway.produce.ack_monitor import AckMonitor, probe_when_silent


@pytest.fixture
def silence() -> AckMonitor:
    """One of a gateway that has been heard."""
    heard = AckMonitor()
    heard.on_sent(0.0)
    heard.on_acknowledged(0.0)
    return heard


def test_nothing_was_sent_since(silence: AckMonitor) -> None:
    assert silence.seconds_silent(100.0) == 0


def test_at_a_start_nothing_is_known_until_something_is_confirmed() -> None:
    ack_monitor = AckMonitor()
    assert ack_monitor.seconds_silent(1.0) == math.inf
    ack_monitor.on_sent(1.0)
    ack_monitor.on_failed(1.0)
    assert ack_monitor.seconds_silent(2.0) == math.inf
    ack_monitor.on_sent(2.0)
    ack_monitor.on_acknowledged(3.0)
    assert ack_monitor.seconds_silent(9.0) == 0


def test_what_is_confirmed_ends_it(silence: AckMonitor) -> None:
    silence.on_sent(1.0)
    assert silence.seconds_silent(4.0) == 3.0
    silence.on_acknowledged(4.0)
    assert silence.seconds_silent(9.0) == 0


def test_of_several_it_lasts_from_the_last_confirmation(silence: AckMonitor) -> None:
    silence.on_sent(1.0)
    silence.on_sent(2.0)
    silence.on_acknowledged(3.0)
    assert silence.seconds_silent(7.0) == 4.0
    silence.on_acknowledged(7.0)
    assert silence.seconds_silent(8.0) == 0


def test_what_is_given_up_does_not_end_it(silence: AckMonitor) -> None:
    silence.on_sent(1.0)
    silence.on_failed(1.0)
    silence.on_sent(20.0)
    assert silence.seconds_silent(21.0) == 20.0
    silence.on_acknowledged(21.0)
    assert silence.seconds_silent(30.0) == 0


def test_one_that_is_given_up_says_nothing_of_the_others(silence: AckMonitor) -> None:
    silence.on_sent(1.0)
    silence.on_sent(2.0)
    silence.on_acknowledged(3.0)
    silence.on_failed(1.0)
    assert silence.seconds_silent(9.0) == 0


async def test_it_is_asked_for_as_long_as_it_lasts(
    silence: AckMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(module, "PROBE_AFTER", 0.05)
    asked = asyncio.Semaphore(0)
    task = asyncio.create_task(
        probe_when_silent(lambda: silence.seconds_silent() >= module.PROBE_AFTER, asked.release)
    )
    async with asyncio.timeout(5):
        silence.on_sent(asyncio.get_running_loop().time() - 1.0)
        for _ in range(3):
            await asked.acquire()
    task.cancel()


async def test_it_is_asked_for_at_once_at_a_start() -> None:
    asked = asyncio.Event()
    task = asyncio.create_task(
        probe_when_silent(lambda: AckMonitor().seconds_silent() >= module.PROBE_AFTER, asked.set)
    )
    async with asyncio.timeout(module.CHECK_INTERVAL / 2):
        await asked.wait()
    task.cancel()
