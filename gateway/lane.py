"""Lanes: the submissions of one partition leave as frames, one after the other.

While a frame is on its way, its lane gathers; when the frame is acknowledged, what has been
gathered is the next one. Under light load a frame holds one submission and waits for nothing;
under heavy load frames grow.

A submission is answered 200 only if Kafka appended its frame by the frame's deadline, which
travels with it (see contract.frame). One whose fate is unknown is answered 503 at its deadline, not
before: until then its frame may still count, and who is told 503 may send again at once.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import msgspec
import structlog

from contract.frame import encode_frame
from contract.position import Receipt
from gateway.clock import BrokerClock
from gateway.link import Appended, SendError
from gateway.metrics import FrameMetrics

log = structlog.get_logger(__name__)

MAX_SUBMISSIONS = 500
MAX_BYTES = 256 * 1024
ENVELOPE_BYTES = 100
"""Room for what a frame holds besides submissions and the commas between them."""
LAST_CALL = 0.25
"""Seconds before its deadline at which a submission is withdrawn: a frame must be there by the
deadline of its oldest member, so one in its last moments would take the others with it."""
GATHER = 0.005
"""Seconds that a lane under load gathers before its next frame: after a frame of more than one
submission. Few large frames cost the gateway, Kafka and the processor far less than many small
ones; a submission that comes alone never waits."""

Answer = asyncio.Future[Receipt | None]
"""The receipt, or None: not confirmed in time."""


class Sender(Protocol):
    """What a lane needs of gateway.link.Link."""

    async def ready(self) -> None: ...

    async def send(self, topic: str, value: bytes, *, partition: int) -> Appended: ...


class _Member(NamedTuple):
    piece: msgspec.Raw
    deadline: float
    answer: Answer


class Lane:
    """The way of one partition. `run` is its one task; a timer answers what is overdue."""

    def __init__(
        self,
        partition: int,
        topic: str,
        sender: Sender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partition = partition
        self._topic = topic
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._now = now
        self._filled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = math.inf
        # Each in the order of deadlines.
        self._queue: deque[_Member] = deque()
        self._sent: deque[_Member] = deque()
        self._held: deque[_Member] = deque()

    def __len__(self) -> int:
        """Number of submissions that wait: for their frame, for Kafka, or for their deadline."""
        return len(self._queue) + len(self._sent) + len(self._held)

    def submit(self, piece: msgspec.Raw, deadline: float) -> Answer:
        """Queue a submission; `deadline` is on the clock `now`."""
        answer: Answer = asyncio.get_running_loop().create_future()
        place = len(self._queue)
        while place and self._queue[place - 1].deadline > deadline:
            place -= 1  # it comes later than others that began later, because its body was slow
        self._queue.insert(place, _Member(piece, deadline, answer))
        self._filled.set()
        if deadline < self._wake_at:
            self._wake(deadline)
        return answer

    async def run(self) -> None:
        """Send frames until cancelled."""
        while True:
            await self._filled.wait()
            await self._sender.ready()
            if not self._clock.knows(self._partition, self._now()):
                await self._ask_time()
                continue
            members = self._gather()
            if members:
                await self._send(members)
            if len(members) > 1:
                await asyncio.sleep(GATHER)

    def give_up(self) -> None:
        """Answer everything that waits: not confirmed."""
        if self._timer is not None:
            self._timer.cancel()
        for members in self._waiting():
            while members:
                _answer(members.popleft(), None)

    async def _ask_time(self) -> None:
        """Learn the leader's time from a frame that holds nothing."""
        sent = self._now()
        try:
            appended = await self._sender.send(
                self._topic, encode_frame(0, []), partition=self._partition
            )
        except SendError:
            self._metrics.failed.inc()
            await asyncio.sleep(GATHER)
        else:
            self._clock.learn(self._partition, appended.timestamp, sent, self._now())

    def _gather(self) -> list[_Member]:
        last_call = self._now() + LAST_CALL
        members: list[_Member] = []
        size = ENVELOPE_BYTES
        while self._queue and len(members) < MAX_SUBMISSIONS:
            member = self._queue[0]
            if member.deadline < last_call:
                _answer(member, None)
            elif not member.answer.done():
                size += len(member.piece) + 1
                if members and size > MAX_BYTES:
                    break
                members.append(member)
            self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        return members

    async def _send(self, members: list[_Member]) -> None:
        sent = self._now()
        answer_by = self._clock.answer_by(self._partition, members[0].deadline)
        frame = encode_frame(answer_by, [member.piece for member in members])
        self._sent.extend(members)
        try:
            appended = await self._sender.send(self._topic, frame, partition=self._partition)
        except SendError:
            self._held = deque(sorted([*self._held, *self._sent], key=_deadline))
            self._sent.clear()
            self._metrics.failed.inc()
            return
        self._sent.clear()
        acknowledged = self._now()
        self._clock.learn(self._partition, appended.timestamp, sent, acknowledged)
        self._metrics.frame(len(members), len(frame), acknowledged - sent)
        in_time = appended.timestamp <= answer_by
        if not in_time:
            self._metrics.late.inc()
            log.warning("frame came late", partition=self._partition, submissions=len(members))
        for index, member in enumerate(members):
            receipt = Receipt(self._partition, appended.offset, index) if in_time else None
            _answer(member, receipt)

    def _waiting(self) -> Iterator[deque[_Member]]:
        yield from (self._held, self._sent, self._queue)

    def _wake(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = moment
        # A loop's timers are as coarse as milliseconds and may fire early.
        delay = max(0.001, moment - self._now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer, self._wake_at = None, math.inf
        now = self._now()
        for members in self._waiting():
            while members and (members[0].deadline <= now or members[0].answer.done()):
                _answer(members.popleft(), None)
        first = min((members[0].deadline for members in self._waiting() if members), default=None)
        if first is not None:
            self._wake(first)


def _deadline(member: _Member) -> float:
    return member.deadline


def _answer(member: _Member, receipt: Receipt | None) -> None:
    if not member.answer.done():
        member.answer.set_result(receipt)
