"""Submissions that wait: for their frame, for Kafka's acknowledgement, or for their deadline.

A submission whose result is unknown gets 503 at its deadline and not before: until then its frame
may still be applied, and the client may send again right after a 503.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from contract.position import Receipt
from gateway.produce.frame_limits import FRAME_OVERHEAD, MAX_FRAME_BYTES, MAX_FRAME_SUBMISSIONS

MIN_TIME_TO_DEADLINE = 0.25
"""Seconds before its deadline at which a submission is withdrawn. A frame must be appended by its
earliest deadline, so a submission close to its deadline would endanger all others in the frame."""


class Completion(Protocol):
    """Receives the result of queued submissions: a future, or an object that writes the response.

    The result is the receipt of the first submission, or None if Kafka did not confirm it in time.
    Once `done` returns True, submissions that are not sent yet are withdrawn.
    """

    def done(self) -> bool: ...

    def set_result(self, receipt: Receipt | None, /) -> None: ...


class PendingEntry(NamedTuple):
    """Submissions that stay together in one frame; usually a single one."""

    payload: bytes
    submission_count: int
    deadline: float
    completion: Completion


class PendingSubmissions:
    """The submissions of one partition; a timer completes them at their deadlines.

    `now` is the clock of the deadlines.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._next_expiry = math.inf
        self.count = 0
        """Number of submissions."""
        self.size_bytes = 0
        """Their total size."""
        # All three are ordered by deadline.
        self._queue: deque[PendingEntry] = deque()
        self._in_flight: deque[PendingEntry] = deque()
        self._unconfirmed: deque[PendingEntry] = deque()

    @property
    def has_queued(self) -> bool:
        """Whether a submission waits for its frame."""
        return bool(self._queue)

    def add(self, entry: PendingEntry) -> None:
        queue = self._queue
        if not queue or queue[-1].deadline <= entry.deadline:
            queue.append(entry)
        else:
            position = len(queue)
            while position and queue[position - 1].deadline > entry.deadline:
                position -= 1  # its body arrived slowly
            queue.insert(position, entry)
        self.count += entry.submission_count
        self.size_bytes += len(entry.payload)
        if entry.deadline < self._next_expiry:
            self._schedule_expiry(entry.deadline)

    def take_frame(self) -> list[PendingEntry]:
        """Return the entries of the next frame, which is in flight from now on."""
        cutoff = self._now() + MIN_TIME_TO_DEADLINE
        entries: list[PendingEntry] = []
        size, count = FRAME_OVERHEAD, 0
        while self._queue:
            entry = self._queue[0]
            if entry.deadline < cutoff:
                self._complete(entry, None)
            elif entry.completion.done():
                self._release(entry)
            else:
                size += len(entry.payload) + 1
                count += entry.submission_count
                if entries and (size > MAX_FRAME_BYTES or count > MAX_FRAME_SUBMISSIONS):
                    break
                entries.append(entry)
            self._queue.popleft()
        self._in_flight.extend(entries)
        return entries

    def on_acknowledged(self, entries: Sequence[PendingEntry], first: Receipt | None) -> None:
        """Complete the entries of the frame in flight; `first` is the receipt of its first
        submission, None if it is not applied."""
        # Entries whose deadline has passed were completed and removed from `_in_flight`.
        expired = len(entries) - len(self._in_flight)
        self._in_flight.clear()
        index = 0
        for position, entry in enumerate(entries):
            if position >= expired:
                receipt = first and Receipt(first.partition, first.offset, index, first.appended)
                self._complete(entry, receipt)
            index += entry.submission_count

    def on_failed(self) -> None:
        """Keep the entries of the frame in flight until their deadlines: it may yet be applied."""
        self._unconfirmed = deque(sorted([*self._unconfirmed, *self._in_flight], key=_deadline))
        self._in_flight.clear()

    def fail_all(self) -> None:
        """Complete all submissions as not confirmed."""
        if self._timer is not None:
            self._timer.cancel()
        for entries in self._queues():
            while entries:
                self._complete(entries.popleft(), None)

    def _queues(self) -> Sequence[deque[PendingEntry]]:
        return self._unconfirmed, self._in_flight, self._queue

    def _complete(self, entry: PendingEntry, receipt: Receipt | None) -> None:
        self._release(entry)
        if not entry.completion.done():
            entry.completion.set_result(receipt)

    def _release(self, entry: PendingEntry) -> None:
        self.count -= entry.submission_count
        self.size_bytes -= len(entry.payload)

    def _schedule_expiry(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_expiry = when
        # Timers of the event loop have a resolution of about a millisecond and may fire early.
        delay = max(0.001, when - self._now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer, self._next_expiry = None, math.inf
        now = self._now()
        for entries in self._queues():
            while entries and (entries[0].deadline <= now or entries[0].completion.done()):
                self._complete(entries.popleft(), None)
        first = min((entries[0].deadline for entries in self._queues() if entries), default=None)
        if first is not None:
            self._schedule_expiry(first)


def _deadline(entry: PendingEntry) -> float:
    return entry.deadline
