"""The timer fires once, when the time since the last start has elapsed, unless it was stopped."""

import asyncio
import time

from service.http.connection.idle_timer import IdleTimer


class Ends:
    """Records the times at which a timer fired."""

    def __init__(self) -> None:
        self.countdown = IdleTimer(asyncio.get_running_loop(), self._end)
        self.moments: list[float] = []
        self._one = asyncio.Event()

    def _end(self) -> None:
        self.moments.append(time.monotonic())
        self._one.set()

    async def first(self) -> float:
        async with asyncio.timeout(5):
            await self._one.wait()
        return self.moments[0]


async def test_the_last_start_determines_the_deadline() -> None:
    for times in ((0.05, 0.2), (30.0, 0.2), (0.05, 30.0, 0.2)):
        ends = Ends()
        began = time.monotonic()
        for seconds in times:
            ends.countdown.start(seconds)
        assert 0.19 < await ends.first() - began < 3
        await asyncio.sleep(0.1)
        assert len(ends.moments) == 1


async def test_a_paused_timer_does_not_fire_until_it_is_started() -> None:
    ends = Ends()
    ends.countdown.start(0.01)
    ends.countdown.pause()
    assert not ends.countdown.is_running
    await asyncio.sleep(0.1)
    assert not ends.moments
    ends.countdown.start(0.01)
    assert ends.countdown.is_running
    await ends.first()


async def test_cancel_leaves_no_timer() -> None:
    ends = Ends()
    ends.countdown.start(0.01)
    ends.countdown.cancel()
    await asyncio.sleep(0.1)
    assert not ends.moments
    assert not ends.countdown.is_running
