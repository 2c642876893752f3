"""Partition batchers: order, limits, deadlines. The test acknowledges each frame itself."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from contract.frame import Frame, Submission, decode_frame, encode_submission
from contract.position import NO_TIME, Receipt
from gateway.metrics import FrameMetrics
from gateway.produce.batcher import OverloadedError, PartitionBatcher, SubmissionBatcher
from gateway.produce.broker_clock import MAX_AGE, BrokerClock
from gateway.produce.frame_limits import MAX_FRAME_BYTES, MAX_FRAME_SUBMISSIONS
from gateway.produce.linger import Linger
from gateway.produce.pending import MIN_TIME_TO_DEADLINE
from gateway.produce.producer import RecordMetadata, SendError
from gateway.produce.throughput import AVERAGING_SECONDS, MAX_RETRY_AFTER, ThroughputEstimator
from tests.unit.gateway.clocks import taught_clock


def piece(number: int, size: int = 0) -> bytes:
    return encode_submission(Submission("client", f"c{number}", 0, labels={"x": "y" * size}))


@dataclass
class ManualProducer:
    """Sends nothing itself: a test receives frames with `frame` and acknowledges them."""

    taken: asyncio.Queue[tuple[bytes, asyncio.Future[RecordMetadata]]] = field(
        default_factory=asyncio.Queue
    )
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    next_offset: int = 0

    async def wait_until_ready(self) -> None:
        await self.connected.wait()

    async def send(self, topic: str, value: bytes, *, partition: int) -> RecordMetadata:
        answer: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self.taken.put_nowait((value, answer))
        return await answer

    async def frame(self) -> tuple[Frame, asyncio.Future[RecordMetadata]]:
        async with asyncio.timeout(5):
            value, answer = await self.taken.get()
        return decode_frame(value), answer

    def append(self, answer: asyncio.Future[RecordMetadata], at: int | None = None) -> None:
        now = time.time_ns() // 1_000_000
        answer.set_result(RecordMetadata(self.next_offset, now if at is None else at))
        self.next_offset += 1


def ids(frame: Frame) -> list[str]:
    return [submission.id for submission in frame.submissions]


@pytest.fixture
async def sender() -> ManualProducer:
    sender = ManualProducer()
    sender.connected.set()
    return sender


class FutureBatcher(PartitionBatcher):
    """A batcher that returns the result of a single submission as a future."""

    def submit(self, payload: bytes, deadline: float) -> asyncio.Future[Receipt | None]:
        completion: asyncio.Future[Receipt | None] = asyncio.get_running_loop().create_future()
        self.enqueue(payload, deadline, completion)
        return completion


@contextlib.asynccontextmanager
async def running(batcher: FutureBatcher) -> AsyncIterator[FutureBatcher]:
    task = asyncio.create_task(batcher.run())
    yield batcher
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    batcher.pending.fail_all()


def batcher_of(
    sender: ManualProducer,
    clock: BrokerClock,
    metrics: FrameMetrics | None = None,
    now: Callable[[], float] = time.monotonic,
) -> FutureBatcher:
    metrics = metrics or FrameMetrics(CollectorRegistry())
    parts = ThroughputEstimator(), Linger(0)
    return FutureBatcher(2, "submissions", sender, clock, metrics, *parts, now)


@pytest.fixture
async def batcher(sender: ManualProducer) -> AsyncIterator[FutureBatcher]:
    """A batcher that knows its leader's time."""
    async with running(batcher_of(sender, taught_clock([2]))) as batcher:
        yield batcher


@pytest.fixture
async def new_batcher(sender: ManualProducer) -> AsyncIterator[FutureBatcher]:
    """A batcher of a gateway that has just started."""
    async with running(batcher_of(sender, BrokerClock())) as batcher:
        yield batcher


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def result(answer: asyncio.Future[Receipt | None]) -> Receipt | None:
    """Return the receipt without its append time."""
    async with asyncio.timeout(5):
        receipt = await answer
    if receipt is not None:
        assert receipt.appended > 0
        receipt = receipt._replace(appended=NO_TIME)
    return receipt


async def test_a_requested_probe_is_an_empty_frame(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    batcher.request_probe()
    frame, sent = await sender.frame()
    assert ids(frame) == []
    answer = batcher.submit(piece(1), soon())
    sender.append(sent)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c1"], "only one probe, not one before each frame"
    sender.append(sent)
    assert await result(answer) == Receipt(2, 1, 0)


async def test_a_waiting_submission_replaces_the_probe(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    """However slowly Kafka acknowledges, and however often a probe is requested."""
    batcher.submit(piece(0), soon())
    for number in range(3):
        _, sent = await sender.frame()
        batcher.request_probe()
        batcher.submit(piece(number + 1), soon())
        sender.append(sent)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c3"]
    batcher.request_probe()
    sender.append(sent)
    frame, _ = await sender.frame()
    assert ids(frame) == [], "no submission was waiting"


async def test_a_single_submission_is_sent_at_once(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    answer = batcher.submit(piece(1), soon())
    frame, sent = await sender.frame()
    assert ids(frame) == ["c1"]
    assert not answer.done()
    sender.append(sent)
    assert await result(answer) == Receipt(2, 0, 0)
    assert batcher.pending.count == 0


async def test_submissions_during_a_send_form_the_next_frame_in_order(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    deadline = soon()
    first = batcher.submit(piece(0), deadline)
    _, sent = await sender.frame()
    others = [batcher.submit(piece(number), deadline) for number in range(1, 20)]
    assert sender.taken.empty()
    sender.append(sent)
    frame, sent = await sender.frame()
    assert ids(frame) == [f"c{number}" for number in range(1, 20)]
    sender.append(sent)
    assert await result(first) == Receipt(2, 0, 0)
    assert [await result(answer) for answer in others] == [
        Receipt(2, 1, index) for index in range(19)
    ]


async def test_the_number_of_submissions_in_a_frame_is_limited(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    deadline = soon()
    answers = [
        batcher.submit(piece(number), deadline) for number in range(2 * MAX_FRAME_SUBMISSIONS + 1)
    ]
    sizes = []
    for _ in range(3):
        frame, sent = await sender.frame()
        sizes.append(len(frame.submissions))
        sender.append(sent)
    assert sizes == [MAX_FRAME_SUBMISSIONS, MAX_FRAME_SUBMISSIONS, 1]
    assert [await result(answer) for answer in answers] == [
        Receipt(2, number // MAX_FRAME_SUBMISSIONS, number % MAX_FRAME_SUBMISSIONS)
        for number in range(len(answers))
    ]


async def test_the_size_of_a_frame_is_limited(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    deadline = soon()
    for number in range(20):
        batcher.submit(piece(number, size=50_000), deadline)
    seen: list[str] = []
    while len(seen) < 20:
        async with asyncio.timeout(5):
            value, sent = await sender.taken.get()
        assert len(value) <= MAX_FRAME_BYTES
        assert len(value) > MAX_FRAME_BYTES / 2 or len(seen) + 5 > 20
        seen += ids(decode_frame(value))
        sender.append(sent)
    assert seen == [f"c{number}" for number in range(20)]


async def test_a_submission_larger_than_a_frame_is_still_sent(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    batcher.submit(piece(0, size=MAX_FRAME_BYTES), soon())
    frame, _ = await sender.frame()
    assert ids(frame) == ["c0"]


async def test_a_frame_has_the_earliest_deadline_of_its_submissions(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    first = batcher.submit(piece(0), soon())
    _, sent = await sender.frame()
    deadline = soon(3)
    for number, later in enumerate([2.0, 0.0, 1.0]):
        batcher.submit(piece(number), deadline + later)
    sender.append(sent)
    await result(first)
    frame, _ = await sender.frame()
    in_broker_time = (deadline + time.time() - time.monotonic()) * 1000
    assert in_broker_time - 50 < frame.deadline_ms < in_broker_time


async def test_only_a_frame_appended_by_its_deadline_gives_receipts(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    for late, expected in ((0, True), (1, False)):
        answer = batcher.submit(piece(0), soon())
        frame, sent = await sender.frame()
        sender.append(sent, at=frame.deadline_ms + late)
        assert (await result(answer) is not None) is expected
        assert frame.is_late(frame.deadline_ms + late) is not expected


async def test_a_late_frame_corrects_the_clock_for_the_next_one(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    """The broker's clock is set forward by an hour."""
    hour = 3_600_000
    answer = batcher.submit(piece(0), soon())
    _, sent = await sender.frame()
    sender.append(sent, at=time.time_ns() // 1_000_000 + hour)
    assert await result(answer) is None
    answer = batcher.submit(piece(1), soon())
    _, sent = await sender.frame()
    sender.append(sent, at=time.time_ns() // 1_000_000 + hour)
    assert await result(answer) == Receipt(2, 1, 0)


HOUR = 3_600_000


async def test_the_leader_is_probed_before_the_first_submission(
    new_batcher: FutureBatcher, sender: ManualProducer
) -> None:
    """The local clock is an hour ahead; with it, a frame could be applied an hour after its 503."""
    answer = new_batcher.submit(piece(0), soon())
    question, asked = await sender.frame()
    assert question.submissions == []
    behind = time.time_ns() // 1_000_000 - HOUR
    assert question.is_late(behind), "the processor applies nothing of it"
    sender.append(asked, at=behind)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c0"]
    assert 0 < behind + 5_000 - frame.deadline_ms < 1_000
    sender.append(sent, at=time.time_ns() // 1_000_000 - HOUR)
    assert await result(answer) == Receipt(2, 1, 0)


async def test_probes_are_repeated_until_the_leader_acknowledges(
    new_batcher: FutureBatcher, sender: ManualProducer
) -> None:
    answer = new_batcher.submit(piece(0), soon())
    for _ in range(3):
        question, asked = await sender.frame()
        assert question.submissions == []
        asked.set_exception(SendError("broken"))
    _, asked = await sender.frame()
    sender.append(asked)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c0"]
    sender.append(sent)
    assert await result(answer) is not None


async def test_the_leader_is_probed_again_after_a_long_silence(sender: ManualProducer) -> None:
    passed = 0.0
    metrics = FrameMetrics(CollectorRegistry())
    clock = taught_clock([2])
    batcher = batcher_of(sender, clock, metrics, lambda: time.monotonic() + passed)
    async with running(batcher):
        for passed, held in ((0.0, [["c0"]]), (MAX_AGE + 10, [[], ["c0"]])):
            answer = batcher.submit(piece(0), soon() + passed)
            for expected in held:
                frame, sent = await sender.frame()
                assert ids(frame) == expected
                sender.append(sent, at=time.time_ns() // 1_000_000 + int(passed * 1000))
            assert await result(answer) is not None


async def test_a_submission_in_flight_completes_at_its_own_deadline(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    early, late = batcher.submit(piece(0), soon(0.3)), batcher.submit(piece(1), soon(1.0))
    _, sent = await sender.frame()
    began = time.monotonic()
    assert await result(early) is None
    assert 0.25 < time.monotonic() - began < 0.95
    assert not late.done()
    assert await result(late) is None
    assert 0.95 < time.monotonic() - began < 3
    sender.append(sent)  # the batcher continues, and nothing waits for it
    answer = batcher.submit(piece(2), soon())
    frame, sent = await sender.frame()
    assert ids(frame) == ["c2"]
    sender.append(sent)
    assert await result(answer) is not None


async def test_a_queued_submission_is_withdrawn_at_its_deadline(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    batcher.submit(piece(0), soon())
    _, sent = await sender.frame()
    withdrawn = batcher.submit(piece(1), soon(0.4))
    kept = batcher.submit(piece(2), soon(5))
    assert await result(withdrawn) is None
    assert (
        batcher.pending.count == 2
    )  # the frame in flight and the live entry; the withdrawn one was released
    sender.append(sent)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c2"]
    sender.append(sent)
    assert await result(kept) == Receipt(2, 1, 0)


async def test_a_submission_close_to_its_deadline_is_not_sent(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    first = batcher.submit(piece(0), soon())
    _, sent = await sender.frame()
    doomed = batcher.submit(piece(1), soon(MIN_TIME_TO_DEADLINE * 0.9))
    kept = batcher.submit(piece(2), soon(5))
    sender.append(sent)
    await result(first)
    assert await result(doomed) is None
    frame, _ = await sender.frame()
    assert ids(frame) == ["c2"]
    assert not kept.done()


async def test_no_frame_is_collected_before_the_producer_is_connected(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    sender.connected.clear()
    dead = batcher.submit(piece(0), soon(0.3))
    assert await result(dead) is None
    kept = batcher.submit(piece(1), soon(5))
    assert sender.taken.empty()
    sender.connected.set()
    frame, sent = await sender.frame()
    assert ids(frame) == ["c1"]
    sender.append(sent)
    assert await result(kept) is not None


async def test_submissions_of_a_failed_frame_complete_at_their_deadline(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    began = time.monotonic()
    unknown = batcher.submit(piece(0), soon(0.6))
    _, sent = await sender.frame()
    sent.set_exception(SendError("broken"))
    after = batcher.submit(piece(1), soon(5))
    frame, sent = await sender.frame()
    assert ids(frame) == ["c1"]
    sender.append(sent)
    assert await result(after) is not None
    assert not unknown.done()
    assert batcher.pending.count == 1
    assert await result(unknown) is None
    assert 0.55 < time.monotonic() - began < 3
    assert batcher.pending.count == 0


async def test_deadlines_may_arrive_out_of_order(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    """A slow body arrives late, with an earlier deadline than those of faster requests."""
    _blocker = batcher.submit(piece(0), soon(5))
    await sender.frame()
    began = time.monotonic()
    answers = {delay: batcher.submit(piece(1), began + delay) for delay in (1.7, 0.3, 1.3, 0.8)}
    for delay in sorted(answers):
        assert await result(answers[delay]) is None
        assert delay - 0.05 < time.monotonic() - began < delay + 0.35


async def test_a_submission_of_a_disconnected_client_is_not_sent(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    first = batcher.submit(piece(0), soon())
    _, sent = await sender.frame()
    gone, kept = batcher.submit(piece(1), soon()), batcher.submit(piece(2), soon())
    gone.cancel()
    sender.append(sent)
    await result(first)
    frame, sent = await sender.frame()
    assert ids(frame) == ["c2"]
    sender.append(sent)
    assert await result(kept) == Receipt(2, 1, 0)


async def test_fail_pending_completes_everything(
    batcher: FutureBatcher, sender: ManualProducer
) -> None:
    answers = [batcher.submit(piece(0), soon())]
    await sender.frame()
    answers += [batcher.submit(piece(number), soon()) for number in range(1, 5)]
    batcher.pending.fail_all()
    assert [await result(answer) for answer in answers] == [None] * 5
    assert batcher.pending.count == 0


PublisherOf = Callable[..., SubmissionBatcher]


@pytest.fixture
async def publisher_of(sender: ManualProducer) -> PublisherOf:
    def make(
        max_waiting: int, max_bytes: int = 10**6, now: Callable[[], float] = time.monotonic
    ) -> SubmissionBatcher:
        clock = taught_clock(range(4))
        metrics = FrameMetrics(CollectorRegistry())
        return SubmissionBatcher(
            "submissions", 4, sender, clock, metrics, max_waiting, max_bytes, now
        )

    return make


async def test_the_number_of_waiting_submissions_is_bounded_over_all_partitions(
    publisher_of: PublisherOf, sender: ManualProducer
) -> None:
    batcher = publisher_of(10)
    for number in range(10):
        batcher.submit(f"client:c{number}".encode(), piece(number), soon())
    with pytest.raises(OverloadedError):
        batcher.submit(b"client:c10", piece(10), soon())
    assert batcher.pending == 10


async def test_the_bytes_of_waiting_submissions_are_bounded_over_all_partitions(
    publisher_of: PublisherOf, sender: ManualProducer
) -> None:
    large = piece(0, 1000)
    batcher = publisher_of(100, 3 * len(large))
    for number in range(3):
        batcher.submit(f"client:c{number}".encode(), large, soon())
    with pytest.raises(OverloadedError):
        batcher.submit(b"client:c3", piece(3), soon())
    sender.connected.set()
    task = asyncio.create_task(batcher.run())
    for _ in range(await frames_waiting(batcher, sender)):
        batcher.submit(b"client:c3", large, soon())
    task.cancel()


async def frames_waiting(batcher: SubmissionBatcher, sender: ManualProducer) -> int:
    """Acknowledge one frame; return the number of its submissions, which no longer wait."""
    waiting = batcher.pending
    _, answer = await sender.frame()
    sender.append(answer)
    async with asyncio.timeout(5):
        while batcher.pending == waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return waiting - batcher.pending


async def test_retry_after_follows_from_the_throughput(
    publisher_of: PublisherOf, sender: ManualProducer
) -> None:
    batcher = publisher_of(40)
    refused = pytest.raises(OverloadedError)
    for number in range(40):
        batcher.submit(f"client:c{number}".encode(), piece(number), soon())
    with refused as nothing_leaves:
        batcher.submit(b"client:x", piece(0), soon())
    assert nothing_leaves.value.retry_after == MAX_RETRY_AFTER

    sender.connected.set()
    task = asyncio.create_task(batcher.run())
    await frames_waiting(batcher, sender)
    number = batcher.pending
    for more in range(40 - number):
        batcher.submit(f"client:d{more}".encode(), piece(more), soon())
    with pytest.raises(OverloadedError) as some_left:
        batcher.submit(b"client:x", piece(0), soon())
    rate = (40 - number) / AVERAGING_SECONDS
    assert some_left.value.retry_after == pytest.approx(min(MAX_RETRY_AFTER, 40 / rate), abs=1.5)
    task.cancel()


async def test_an_entity_has_one_partition_and_partitions_are_independent(
    publisher_of: PublisherOf, sender: ManualProducer
) -> None:
    batcher = publisher_of(100)
    task = asyncio.create_task(batcher.run())
    answers = [batcher.submit(f"client:c{n}".encode(), piece(n), soon()) for n in range(16)]
    frames = [await sender.frame() for _ in range(4)]
    assert sorted(id for frame, _ in frames for id in ids(frame)) == sorted(
        f"c{n}" for n in range(16)
    )
    for _, sent in frames[1:]:
        sender.append(sent)
    stuck = {submission.id for submission in frames[0][0].submissions}
    for number, answer in enumerate(answers):
        if f"c{number}" not in stuck:
            assert await result(answer) is not None
    sender.append(frames[0][1])
    receipts = [await result(answer) for answer in answers]
    assert all(receipt is not None for receipt in receipts)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_cancellation_completes_waiting_submissions(
    publisher_of: PublisherOf, sender: ManualProducer
) -> None:
    batcher = publisher_of(100)
    task = asyncio.create_task(batcher.run())
    lost = batcher.submit(b"client:a", piece(1), soon())
    await sender.frame()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await result(lost) is None


def test_a_payload_is_contained_unchanged_in_the_frame() -> None:
    assert json.loads(bytes(piece(1)))["id"] == "c1"


async def test_a_reused_offset_is_counted(sender: ManualProducer) -> None:
    metrics = FrameMetrics(CollectorRegistry())
    batcher = batcher_of(sender, taught_clock([2]), metrics)
    async with running(batcher):
        for offset in (5, 6, 6, 7, 3):
            sender.next_offset = offset
            answer = batcher.submit(piece(1), soon())
            _, sent = await sender.frame()
            sender.append(sent)
            assert await result(answer) == Receipt(2, offset, 0)
    assert metrics.reused_offsets._value.get() == 2


@dataclass
class RecordingSender:
    """Appends frame number n after `trip(n)` seconds; keeps when each left and was appended."""

    trip: Callable[[int], float] = lambda _: 0.002
    frames: list[tuple[float, Frame]] = field(default_factory=list)
    appended_ms: dict[int, int] = field(default_factory=dict)

    async def wait_until_ready(self) -> None:
        return

    async def send(self, topic: str, value: bytes, *, partition: int) -> RecordMetadata:
        number = len(self.frames)
        self.frames.append((time.monotonic(), decode_frame(value)))
        await asyncio.sleep(self.trip(number))
        self.appended_ms[number] = time.time_ns() // 1_000_000
        return RecordMetadata(number, self.appended_ms[number])


@contextlib.asynccontextmanager
async def lingering(sender: RecordingSender, linger: float) -> AsyncIterator[SubmissionBatcher]:
    batcher = SubmissionBatcher(
        "submissions",
        4,
        sender,
        taught_clock(range(4)),
        FrameMetrics(CollectorRegistry()),
        max_pending=10_000,
        max_bytes=10**8,
        linger=linger,
    )
    task = asyncio.create_task(batcher.run())
    yield batcher
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_under_load_the_frames_of_all_partitions_leave_together() -> None:
    sender = RecordingSender()
    async with lingering(sender, 0.1) as batcher:
        answers = []
        for number in range(300):
            answers.append(batcher.submit(f"client:c{number}".encode(), piece(number), soon()))
            await asyncio.sleep(0.002)
        assert None not in [await result(answer) for answer in answers]
    left = [moment for moment, _ in sender.frames]
    flushes = 1 + sum(later - earlier > 0.01 for earlier, later in pairwise(left))
    assert sum(len(frame.submissions) for _, frame in sender.frames) == 300
    assert flushes < 50
    assert len(sender.frames) < 150


async def test_a_lone_submission_does_not_linger() -> None:
    sender = RecordingSender()
    async with lingering(sender, 0.1) as batcher:
        for number in range(3):
            began = time.monotonic()
            assert await result(batcher.submit(b"client:a", piece(number), soon())) is not None
            assert time.monotonic() - began < 0.09


async def test_lingering_never_makes_a_confirmation_untrue() -> None:
    """Confirmed is exactly what was appended by its frame's deadline, and that is never later than
    the deadline of a submission in it, however long it waited."""
    sender = RecordingSender(trip=lambda number: 1.2 if number % 5 == 3 else 0.002)
    deadlines, answers = {}, {}
    async with lingering(sender, 0.1) as batcher:
        for number in range(600):
            id, deadline = f"c{number}", time.monotonic() + 1.0
            deadlines[id] = (deadline + time.time() - time.monotonic()) * 1000
            answers[id] = batcher.submit(f"client:{id}".encode(), piece(number), deadline)
            await asyncio.sleep(0.001)
        confirmed = {id for id, answer in answers.items() if await result(answer) is not None}
        async with asyncio.timeout(5):
            while len(sender.appended_ms) < len(sender.frames):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    counted = set()
    for number, (_, frame) in enumerate(sender.frames):
        assert all(frame.deadline_ms <= deadlines[id] + 1 for id in ids(frame))
        if not frame.is_late(sender.appended_ms[number]):
            counted.update(ids(frame))
    assert confirmed == counted
    assert 0 < len(confirmed) < 600


async def test_a_stop_lets_everything_leave_at_once() -> None:
    sender = RecordingSender()
    async with lingering(sender, 0.24) as batcher:
        answers = []
        for number in range(200):
            answers.append(batcher.submit(f"client:c{number}".encode(), piece(number), soon()))
            await asyncio.sleep(0.001)
        batcher.submit(b"client:x", piece(0), soon())
        waiting = batcher.submit(b"client:y", piece(1), soon())
        began = time.monotonic()
        batcher.stop_lingering()
        assert await result(waiting) is not None
        assert time.monotonic() - began < 0.1
        assert None not in [await result(answer) for answer in answers]
