"""Linger: which submissions are sent together, and when. Time is virtual."""

import asyncio
import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gateway.produce.frame_limits import MAX_FRAME_BYTES, MAX_FRAME_SUBMISSIONS
from gateway.produce.linger import Linger

LONGEST = 0.1
TRIP = 0.003
"""Seconds until Kafka acknowledges a frame."""


@dataclass
class _Timer:
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Process:
    """A process that sends all frames at a flush; they are acknowledged TRIP seconds later."""

    longest: float = LONGEST
    time: float = 1000.0
    waiting: list[float] = field(default_factory=list)
    flushes: list[list[float]] = field(default_factory=list)
    """Arrival times of the submissions that were sent together."""
    delays: list[float] = field(default_factory=list)
    """Seconds that each arrival waited for its flush."""
    on_response: Callable[[float], None] = lambda _: None
    _timers: list[tuple[float, int, _Timer]] = field(default_factory=list)
    _scheduled: int = 0
    _flush: int = 0

    def __post_init__(self) -> None:
        self.linger = Linger(self.longest, 0.25, lambda: self.time, self.call_later)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        self._scheduled += 1
        heapq.heappush(self._timers, (self.time + seconds, self._scheduled, timer))
        return timer

    def arrive(self, count: int = 1, size: int = 400, left: float = 8.0) -> None:
        self.waiting.append(self.time)
        self._flush = self.linger.arrive(count, size, self.time + left)
        self.send_what_is_due()

    def send_what_is_due(self) -> None:
        if self.waiting and self._flush <= self.linger._flushed:
            self.flushes.append(self.waiting)
            self.delays += [self.time - arrived for arrived in self.waiting]
            flushed, self.waiting = self.waiting, []
            self.linger.on_sent()
            self.call_later(TRIP, lambda: self._acknowledge(len(flushed)))

    def _acknowledge(self, count: int) -> None:
        self.linger.on_landed()
        for _ in range(count):
            self.on_response(self.time)

    def run(self, until: float) -> None:
        while self._timers and self._timers[0][0] <= until:
            self.time, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()
                self.send_what_is_due()
        self.time = until

    def open_loop(self, moments: Iterable[float]) -> None:
        start = self.time
        for moment in moments:
            self.run(start + moment)
            self.arrive()
        self.run(self.time + 1)

    def closed_loop(self, senders: int, seconds: float, think: float = 0.0002) -> int:
        """Let senders send again as soon as they have a response; return how many sent."""
        busy_until = self.time
        sent = 0
        end = self.time + seconds

        def send_again(now: float) -> None:
            nonlocal busy_until, sent
            busy_until = max(busy_until, now) + think  # one after the other, as on one core
            if busy_until < end:
                sent += 1
                self.call_later(busy_until - now, self.arrive)

        self.on_response = send_again
        for _ in range(senders):
            send_again(self.time)
        self.run(end + 1)
        return sent


def poisson(rate: float, seconds: float, seed: int = 1) -> list[float]:
    chance, moments, moment = random.Random(seed), [], 0.0
    while (moment := moment + chance.expovariate(rate)) < seconds:
        moments.append(moment)
    return moments


def test_a_lone_submission_leaves_at_once() -> None:
    process = Process()
    process.open_loop(range(20))
    assert len(process.flushes) == 20
    assert max(process.delays) == 0


@pytest.mark.parametrize(("rate", "held"), [(100, 7), (300, 20), (1000, 70)])
def test_under_load_many_leave_together_within_the_longest_linger(rate: float, held: int) -> None:
    process = Process()
    process.open_loop(poisson(rate, 20))
    sizes = [len(flush) for flush in process.flushes]
    assert sum(sizes) / len(sizes) > held
    assert max(process.delays) <= LONGEST + 0.002
    assert all(b[0] - a[0] > 0 for a, b in pairwise(process.flushes))


@pytest.mark.parametrize(("rate", "longest"), [(5, 0.005), (20, 0.06)])
def test_under_little_load_nobody_waits_long(rate: float, longest: float) -> None:
    process = Process()
    process.open_loop(poisson(rate, 60))
    assert sum(process.delays) / len(process.delays) < longest


def test_the_window_grows_with_the_load_and_shrinks_after_it() -> None:
    process = Process()
    process.open_loop(poisson(300, 5))
    assert max(process.delays) > 0.09
    process.delays.clear()
    process.run(process.time + 5)
    process.open_loop(range(5))
    assert max(process.delays) == 0


@pytest.mark.parametrize("senders", [1, 2, 8, 32, 256])
def test_senders_that_wait_for_a_response_do_not_wait_for_the_window(senders: int) -> None:
    """Each cycle takes at least the round trip and one step for each sender."""
    process, seconds = Process(), 10.0
    sent = process.closed_loop(senders, seconds)
    best = seconds * senders / (TRIP + 0.0002 * senders)
    assert sent > best * 0.5
    if senders >= 32:
        assert sent > best * 0.8


def test_random_arrivals_are_not_taken_for_bursts_after_a_closed_loop() -> None:
    process = Process()
    process.closed_loop(32, 5)
    process.on_response = lambda _: None
    process.flushes.clear()
    process.open_loop(poisson(300, 10))
    late = process.flushes[len(process.flushes) // 2 :]
    assert sum(map(len, late)) / len(late) > 20


def test_a_full_flush_leaves_at_once() -> None:
    for size, count in ((400, MAX_FRAME_SUBMISSIONS // 2), (MAX_FRAME_BYTES // 2, 1)):
        process = Process()
        process.open_loop(poisson(300, 2))
        process.arrive()
        process.arrive()
        assert process.waiting, "it waits"
        process.arrive(count, size)
        process.arrive(count, size)
        assert not process.waiting


def test_one_that_is_close_to_its_deadline_leaves_at_once_with_all_others() -> None:
    process = Process()
    process.open_loop(poisson(300, 2))
    process.arrive()
    process.arrive()
    assert process.waiting
    process.arrive(left=0.3)
    assert not process.waiting


def test_a_stop_flushes_at_once_and_nothing_waits_after_it() -> None:
    process = Process()
    process.open_loop(poisson(300, 2))
    process.arrive()
    process.arrive()
    assert process.waiting
    process.linger.stop()
    process.send_what_is_due()
    assert not process.waiting
    process.arrive()
    process.arrive()
    assert not process.waiting


def test_without_linger_nothing_waits() -> None:
    process = Process(longest=0.0)
    process.open_loop(poisson(1000, 2))
    assert max(process.delays) == 0


async def test_waiters_of_a_flush_are_woken_by_it_and_others_are_not() -> None:
    linger = Linger(LONGEST)
    linger.on_sent()
    numbers = [linger.arrive(1, 1, 1e9) for _ in range(20)]
    waiting = asyncio.create_task(linger.wait(numbers[-1]))
    later = asyncio.create_task(linger.wait(numbers[-1] + 1))
    async with asyncio.timeout(5):
        await waiting
    assert not later.done()
    linger.stop()
    async with asyncio.timeout(5):
        await later
