"""Silence lasts from the first that was sent after the last that was confirmed."""

import asyncio
import math

import pytest

from gateway import pulse as module
from gateway.pulse import Silence, pulse


@pytest.fixture
def silence() -> Silence:
    """One of a gateway that has been heard."""
    heard = Silence()
    heard.sent(0.0)
    heard.confirmed(0.0)
    return heard


def test_nothing_was_sent_since(silence: Silence) -> None:
    assert silence.seconds(100.0) == 0


def test_at_a_start_nothing_is_known_until_something_is_confirmed() -> None:
    silence = Silence()
    assert silence.seconds(1.0) == math.inf
    silence.sent(1.0)
    silence.failed(1.0)
    assert silence.seconds(2.0) == math.inf
    silence.sent(2.0)
    silence.confirmed(3.0)
    assert silence.seconds(9.0) == 0


def test_what_is_confirmed_ends_it(silence: Silence) -> None:
    silence.sent(1.0)
    assert silence.seconds(4.0) == 3.0
    silence.confirmed(4.0)
    assert silence.seconds(9.0) == 0


def test_of_several_it_lasts_from_the_last_confirmation(silence: Silence) -> None:
    silence.sent(1.0)
    silence.sent(2.0)
    silence.confirmed(3.0)
    assert silence.seconds(7.0) == 4.0
    silence.confirmed(7.0)
    assert silence.seconds(8.0) == 0


def test_what_is_given_up_does_not_end_it(silence: Silence) -> None:
    silence.sent(1.0)
    silence.failed(1.0)
    silence.sent(20.0)
    assert silence.seconds(21.0) == 20.0
    silence.confirmed(21.0)
    assert silence.seconds(30.0) == 0


def test_one_that_is_given_up_says_nothing_of_the_others(silence: Silence) -> None:
    silence.sent(1.0)
    silence.sent(2.0)
    silence.confirmed(3.0)
    silence.failed(1.0)
    assert silence.seconds(9.0) == 0


async def test_it_is_asked_for_as_long_as_it_lasts(
    silence: Silence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "ASK_AFTER", 0.05)
    asked = asyncio.Semaphore(0)
    task = asyncio.create_task(pulse(lambda: silence.seconds() >= module.ASK_AFTER, asked.release))
    async with asyncio.timeout(5):
        silence.sent(asyncio.get_running_loop().time() - 1.0)
        for _ in range(3):
            await asked.acquire()
    task.cancel()


async def test_it_is_asked_for_at_once_at_a_start() -> None:
    asked = asyncio.Event()
    task = asyncio.create_task(pulse(lambda: Silence().seconds() >= module.ASK_AFTER, asked.set))
    async with asyncio.timeout(module.PAUSE / 2):
        await asked.wait()
    task.cancel()
