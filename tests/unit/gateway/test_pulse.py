"""Silence lasts from the first that was sent after the last that was confirmed."""

import asyncio

import pytest

from gateway import pulse as module
from gateway.pulse import Silence, pulse


def test_nothing_was_sent() -> None:
    assert Silence().seconds(100.0) == 0


def test_what_is_confirmed_ends_it() -> None:
    silence = Silence()
    silence.sent(1.0)
    assert silence.seconds(4.0) == 3.0
    silence.confirmed(4.0)
    assert silence.seconds(9.0) == 0


def test_of_several_it_lasts_from_the_last_confirmation() -> None:
    silence = Silence()
    silence.sent(1.0)
    silence.sent(2.0)
    silence.confirmed(3.0)
    assert silence.seconds(7.0) == 4.0
    silence.confirmed(7.0)
    assert silence.seconds(8.0) == 0


def test_what_is_given_up_does_not_end_it() -> None:
    silence = Silence()
    silence.sent(1.0)
    silence.failed(1.0)
    silence.sent(20.0)
    assert silence.seconds(21.0) == 20.0
    silence.confirmed(21.0)
    assert silence.seconds(30.0) == 0


def test_one_that_is_given_up_says_nothing_of_the_others() -> None:
    silence = Silence()
    silence.sent(1.0)
    silence.sent(2.0)
    silence.confirmed(3.0)
    silence.failed(1.0)
    assert silence.seconds(9.0) == 0


async def test_it_is_asked_for_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "ASK_AFTER", 0.05)
    silence, asked = Silence(), asyncio.Semaphore(0)
    task = asyncio.create_task(pulse(silence, asked.release))
    async with asyncio.timeout(5):
        silence.sent(asyncio.get_running_loop().time() - 1.0)
        for _ in range(3):
            await asked.acquire()
    task.cancel()
