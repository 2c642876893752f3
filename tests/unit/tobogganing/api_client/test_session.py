"""Renewal of tokens, and waits between attempts."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tobogganing.api_client.session import renewal_time
from tobogganing.backoff import LONGEST_BACKOFF, backoff, stopped_before


def test_a_token_is_renewed_before_it_expires() -> None:
    assert renewal_time("1970-01-01T00:16:40Z", now=0.0) == 800.0
    assert renewal_time("1970-01-01T01:16:40+01:00", now=900.0) == 980.0


@pytest.mark.parametrize("text", ["", "tomorrow", "None", "2026-01-01T00:00:00"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|no time zone"):
        renewal_time(text, now=0.0)


@given(st.integers(1, 100), st.floats(0, 60))
def test_backoff_is_bounded_and_at_least_retry_after(attempts: int, retry_after: float) -> None:
    wait = backoff(attempts, retry_after)
    assert retry_after <= wait <= max(retry_after, LONGEST_BACKOFF) + 0.2


async def test_a_stop_ends_a_wait() -> None:
    stop = asyncio.Event()
    assert not await stopped_before(stop, time.monotonic() + 0.01)
    assert not await stopped_before(stop, time.monotonic() - 1)
    waiting = asyncio.create_task(stopped_before(stop, time.monotonic() + 60))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting
