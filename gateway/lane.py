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
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import structlog

from contract.frame import join_frame
from contract.position import Receipt
from gateway.clock import BrokerClock
from gateway.drain import DrainRate
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
"""Seconds that a lane under load gathers, on average, before its next frame: after a frame of more
than one submission. Few large frames cost the gateway, Kafka and the processor far less than many
small ones; a submission that comes alone never waits."""


class Answer(Protocol):
    """Whoever waits for the fate of submissions: a future, or what an answer is written by.

    It gets the receipt of the first of them, or None: not confirmed in time. Once it is `done`,
    nobody waits any more, and what has not left yet is withdrawn.
    """

    def done(self) -> bool: ...

    def set_result(self, receipt: Receipt | None, /) -> None: ...


class Sender(Protocol):
    """What a lane needs of gateway.link.Link."""

    async def ready(self) -> None: ...

    async def send(self, topic: str, value: bytes, *, partition: int) -> Appended: ...


class _Member(NamedTuple):
    """Submissions that leave in one frame, next to each other: most often a single one."""

    pieces: bytes
    number: int
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
        drain: DrainRate | None = None,
    ) -> None:
        self._drain = drain if drain is not None else DrainRate()
        self._partition = partition
        self._topic = topic
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._now = now
        self._filled = asyncio.Event()
        self._asks = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = math.inf
        self._newest_offset = -1
        self._count = 0
        self.size = 0
        """Bytes of the submissions that wait."""
        # Each in the order of deadlines.
        self._queue: deque[_Member] = deque()
        self._sent: deque[_Member] = deque()
        self._held: deque[_Member] = deque()

    def __len__(self) -> int:
        """Number of submissions that wait: for their frame, for Kafka, or for their deadline."""
        return self._count

    def submit(self, piece: bytes, deadline: float) -> asyncio.Future[Receipt | None]:
        """Queue a submission; return what will hold its fate."""
        answer: asyncio.Future[Receipt | None] = asyncio.get_running_loop().create_future()
        self.queue(piece, deadline, answer)
        return answer

    def queue(self, pieces: bytes, deadline: float, answer: Answer, count: int = 1) -> None:
        """Queue a submission, or `count` of them with commas between; they stay together.

        Together they must fit a frame. `deadline` is on the clock `now`.
        """
        queue = self._queue
        member = _Member(pieces, count, deadline, answer)
        if not queue or queue[-1].deadline <= deadline:
            queue.append(member)
        else:
            place = len(queue)
            while place and queue[place - 1].deadline > deadline:
                place -= 1  # it comes later than others that began later: its body was slow
            queue.insert(place, member)
        self._count += count
        self.size += len(pieces)
        self._filled.set()
        if deadline < self._wake_at:
            self._wake(deadline)

    async def run(self) -> None:
        """Send frames until cancelled."""
        while True:
            await self._filled.wait()
            await self._sender.ready()
            asks = self._asks and not self._queue
            if asks or not self._clock.knows(self._partition, self._now()):
                await self._ask_time()
                self._asks = False
                continue
            self._asks = False
            members = self._gather()
            if members:
                await self._send(members)
            if len(members) > 1:
                await asyncio.sleep(until_beat(self._now()))

    def ask(self) -> None:
        """Send a frame that holds nothing, if nothing else leaves: that would ask as well."""
        self._asks = True
        self._filled.set()

    def give_up(self) -> None:
        """Answer everything that waits: not confirmed."""
        if self._timer is not None:
            self._timer.cancel()
        for members in self._waiting():
            while members:
                self._answer(members.popleft(), None)

    async def _ask_time(self) -> None:
        """Learn the leader's time from a frame that holds nothing."""
        sent = self._now()
        try:
            appended = await self._sender.send(
                self._topic, join_frame(0, []), partition=self._partition
            )
        except SendError:
            self._metrics.failed.inc()
            await asyncio.sleep(GATHER)
        else:
            self._clock.learn(self._partition, appended.timestamp, sent, self._now())

    def _gather(self) -> list[_Member]:
        last_call = self._now() + LAST_CALL
        members: list[_Member] = []
        size, count = ENVELOPE_BYTES, 0
        while self._queue:
            member = self._queue[0]
            if member.deadline < last_call:
                self._answer(member, None)
            elif member.answer.done():
                self._let_go(member)
            else:
                size += len(member.pieces) + 1
                count += member.number
                if members and (size > MAX_BYTES or count > MAX_SUBMISSIONS):
                    break
                members.append(member)
            self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        return members

    async def _send(self, members: list[_Member]) -> None:
        sent = self._now()
        answer_by = self._clock.answer_by(self._partition, members[0].deadline)
        frame = join_frame(answer_by, [member.pieces for member in members])
        self._sent.extend(members)
        try:
            appended = await self._sender.send(self._topic, frame, partition=self._partition)
        except SendError:
            self._held = deque(sorted([*self._held, *self._sent], key=_deadline))
            self._sent.clear()
            self._metrics.failed.inc()
            return
        acknowledged = self._now()
        self._clock.learn(self._partition, appended.timestamp, sent, acknowledged)
        self._note_offset(appended.offset)
        count = sum(member.number for member in members)
        self._drain.add(count, acknowledged)
        self._metrics.frame(count, len(frame), acknowledged - sent)
        in_time = appended.timestamp <= answer_by
        if not in_time:
            self._metrics.late.inc()
            log.warning("frame came late", partition=self._partition, submissions=count)
        # Those whose deadline has passed meanwhile have had their answer, and are not in `_sent`.
        answered = len(members) - len(self._sent)
        self._sent.clear()
        index = 0
        for place, member in enumerate(members):
            if place >= answered:
                receipt = Receipt(self._partition, appended.offset, index, appended.timestamp)
                self._answer(member, receipt if in_time else None)
            index += member.number

    def _note_offset(self, offset: int) -> None:
        if offset <= self._newest_offset:
            self._metrics.reused_offsets.inc()
            log.error(
                "Kafka has lost the end of the submissions topic",
                partition=self._partition,
                offset=offset,
                newest_before=self._newest_offset,
            )
        self._newest_offset = offset

    def _answer(self, member: _Member, receipt: Receipt | None) -> None:
        """Tell whoever waits what became of a member that is leaving."""
        self._let_go(member)
        if not member.answer.done():
            member.answer.set_result(receipt)

    def _let_go(self, member: _Member) -> None:
        self._count -= member.number
        self.size -= len(member.pieces)

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
                self._answer(members.popleft(), None)
        first = min((members[0].deadline for members in self._waiting() if members), default=None)
        if first is not None:
            self._wake(first)


def until_beat(now: float) -> float:
    """Seconds that a lane gathers from `now` on: to a beat that all lanes have in common.

    Frames of several partitions that are ready at the same time leave in one request to their
    broker, and it is requests that cost.
    """
    beat = math.ceil(now / GATHER + 0.5) * GATHER
    return beat - now


def grouped(pieces: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join submissions to as few groups as fit frames, in order; with the number in each."""
    if len(pieces) <= MAX_SUBMISSIONS:
        joined = b",".join(pieces)
        if len(joined) <= MAX_BYTES - ENVELOPE_BYTES:
            yield joined, len(pieces)
            return
    group: list[bytes] = []
    size = ENVELOPE_BYTES
    for piece in pieces:
        size += len(piece) + 1
        if group and (size > MAX_BYTES or len(group) == MAX_SUBMISSIONS):
            yield b",".join(group), len(group)
            group, size = [], ENVELOPE_BYTES + len(piece) + 1
        group.append(piece)
    if group:
        yield b",".join(group), len(group)


def _deadline(member: _Member) -> float:
    return member.deadline
