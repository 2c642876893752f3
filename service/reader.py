"""Topic readers: partitions of a topic read without a group, once to the end or for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from service.aiokafka_compat import ended_tasks
from service.kafka import client_options, milliseconds_setting, stopped
from service.settings import KafkaSettings
from service.tasks import first_error
from service.tombstones import TombstoneDeadline, uptime
from service.topic_history import (
    HistoryChangedError,
    Marker,
    OutdatedStateError,
    TopicHistory,
    find_cut,
    find_difference,
    find_unread,
)

log = structlog.get_logger(__name__)

Apply = Callable[[int, Sequence[ConsumerRecord]], None]
"""Takes a partition and its next records, in order."""
Finish = Callable[[], Awaitable[None]]
"""Finishes what `Apply` left for the time when everything older has been read."""

_FETCH_BYTES = 1024 * 1024
"""Bytes that a partition brings at a time. Records of more would soon be garbage too, but of what a
process once had it keeps the memory."""
_POLL_MS = 200


class UnreachableError(Exception):
    """Kafka did not say in time where the topic ends."""


class ReaderError(Exception):
    """A reader does not read any more."""


class TopicEnds:
    """Asks where partitions of a topic begin and end: an async context manager.

    It has a connection of its own. On a reader's the question would wait for the fetch before it,
    which the broker holds for up to half a second until there is something to read.
    """

    def __init__(self, settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> None:
        self._partitions = {number: TopicPartition(topic, number) for number in partitions}
        self.settings = settings

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **client_options(self.settings), enable_auto_commit=False, **self._options()
        )
        try:
            await self._consumer.start()
        except BaseException:
            await stopped(self._consumer.stop())
            raise
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await stopped(self._consumer.stop())

    async def beginnings(self) -> dict[int, int]:
        """First offset that exists of each partition."""
        offsets = await self._consumer.beginning_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def ends(self) -> dict[int, int]:
        """Offset after the last acknowledged record of each partition, as of now or later."""
        offsets = await self._consumer.end_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def first_since(self, times: Mapping[int, int]) -> dict[int, Marker | None]:
        """First record of each partition that was appended at its time (milliseconds) or later."""
        wanted = {self._partitions[p]: max(0, time) for p, time in times.items()}
        found = await self._consumer.offsets_for_times(wanted) if wanted else {}
        return {
            tp.partition: None if first is None else Marker(first.offset, first.timestamp)
            for tp, first in found.items()
        }

    def _options(self) -> dict[str, Any]:
        """What the consumer is made with besides."""
        return {}


class TopicReader(TopicEnds):
    """Reads partitions of a topic, outside any group."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._consumer.assign(list(self._partitions.values()))
        return self

    async def offset_at(self, partition: int, time: int) -> int | None:
        """First offset appended at `time` (milliseconds) or later; None if there is none."""
        found = (await self.first_since({partition: time}))[partition]
        return None if found is None else found.offset

    def seek(self, starts: Mapping[int, int]) -> None:
        """Continue each partition at its offset."""
        for partition, offset in starts.items():
            self._consumer.seek(self._partitions[partition], offset)

    async def position(self, partition: int) -> int:
        """Offset of the next record to be read (past those that compaction removed)."""
        position: int = await self._consumer.position(self._partitions[partition])
        return position

    async def poll(self, apply: Apply, partitions: Iterable[int] | None = None) -> None:
        """Hand the next records to `apply`; returns empty-handed after 200 ms without any.

        Raises:
            ReaderError: nothing will ever come, as a background task of the consumer has ended.
        """
        for task in ended_tasks(self._consumer):
            raise ReaderError(f"the {task.name} of a reader has ended: {task.error!r}")
        wanted = [self._partitions[number] for number in partitions or self._partitions]
        batches = await self._consumer.getmany(*wanted, timeout_ms=_POLL_MS)
        for tp, records in batches.items():
            apply(tp.partition, records)

    async def record_from(self, partition: int, offset: int, end: int) -> ConsumerRecord | None:
        """The first record at `offset` or after it, before `end`; None where there is none.

        A transaction's marker is no record.

        Raises:
            OffsetOutOfRangeError: retention has just deleted the offset.
            KafkaError: Kafka does not answer.
        """
        found: list[ConsumerRecord] = []

        def take(_: int, records: Sequence[ConsumerRecord]) -> None:
            found.extend(records[:1])

        self.seek({partition: offset})
        while not found and await self.position(partition) < end:
            await self.poll(take, [partition])
        return found[0] if found and found[0].offset < end else None

    async def read_to_end(self, apply: Apply, starts: Mapping[int, int]) -> dict[int, int]:
        """Read from `starts` up to where each partition ends now; return those ends.

        A start before the first existing offset counts as that offset.
        """
        beginnings, ends = await asyncio.gather(self.beginnings(), self.ends())
        self.seek({p: max(beginnings[p], starts.get(p, 0)) for p in self._partitions})
        unread = {p for p in self._partitions if await self.position(p) < ends[p]}
        while unread:
            await self.poll(apply, unread)
            unread = {p for p in unread if await self.position(p) < ends[p]}
        return ends

    def _options(self) -> dict[str, Any]:
        return {
            # An offset that no longer exists means that the log is another one than we read.
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": 500,
        }


class TopicFollower:
    """Reads partitions of a topic from the beginning and for ever, in tasks of its own.

    `apply` runs on the event loop. `catch_up` waits until everything has been read that was there
    when it was called; many callers share one request to the brokers. If the topic turns out to
    hold other records than were read, or tombstones may have been missed, `clear` forgets what was
    read, and the topic is read again from its beginning.
    """

    question_interval: float = 1.0
    """Seconds between questions where the topic ends, when nobody asks."""
    question_pause: float = 0.05
    """Least seconds between two questions, whoever asks: at most 20 a second."""
    question_timeout: float = 4.0
    reachable_within: float = 6.0
    """Seconds since Kafka's last answer after which it counts as unreachable."""
    confirm_within: float = 3.0
    """Seconds for which Kafka must say nothing else before the topic counts as another one: a
    broker that was frozen answers for a moment as if it still led the partition."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: Iterable[int],
        apply: Apply,
        finish: Finish | None = None,
        clear: Callable[[], None] | None = None,
    ) -> None:
        self.topic = topic
        self.partitions = tuple(partitions)
        self.caught_up = False
        """True once everything that was there at the start has been read, and finished."""
        self._settings = settings
        self._apply = apply
        self._finish = finish
        self._clear = clear
        self._history = TopicHistory()
        self._compared_at = self._doubted_at = float("-inf")
        self._asked = asyncio.Event()
        self._askers: list[asyncio.Future[dict[int, int]]] = []
        self._progress = asyncio.Condition()
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._ends_at_start: dict[int, int] = {}
        self._answered_at: float | None = None

    def is_reachable(self, now: float | None = None) -> bool:
        """Tell whether Kafka has answered lately; `now` is on the monotonic clock."""
        return self.silence(now) < self.reachable_within

    def silence(self, now: float | None = None) -> float:
        """Seconds since Kafka last said where the topic ends; infinite before it first did."""
        if self._answered_at is None:
            return float("inf")
        return (time.monotonic() if now is None else now) - self._answered_at

    def lag(self) -> dict[int, int]:
        """Offsets still to read of each partition, as of Kafka's last answer."""
        return {p: max(0, end - self._next.get(p, 0)) for p, end in self._ends.items()}

    async def run(self) -> None:
        """Follow the topic until cancelled.

        Raises:
            OutdatedStateError: the topic must be read from its beginning, and there is no `clear`.
            Exception: `apply` failed; what was read is then worth nothing.
        """
        while True:
            try:
                with first_error(OutdatedStateError):
                    await self._follow()
            except OutdatedStateError as error:
                if self._clear is None:
                    raise
                log.error("reading the topic again", topic=self.topic, reason=str(error))
                self.caught_up = False
                self._next, self._ends_at_start = {}, {}
                self._history = TopicHistory()
                self._clear()

    async def _follow(self) -> None:
        where = (self._settings, self.topic, self.partitions)
        async with TopicReader(*where) as reader, TopicEnds(*where) as ends:
            kept = await self._seek_to_beginnings(reader)
            deadline = TombstoneDeadline(kept, uptime())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(reader))
                tasks.create_task(self._ask(ends, deadline))

    async def catch_up(self, timeout: float) -> None:
        """Wait until everything has been read that was in the topic when this was called.

        Raises:
            UnreachableError: Kafka could not be asked, or reading took over `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                answer: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
                self._askers.append(answer)
                self._asked.set()
                await self.reach(await answer)
        except TimeoutError as error:
            raise UnreachableError(f"{self.topic} was not read to its end in time") from error

    async def reach(self, ends: Mapping[int, int]) -> None:
        """Wait until each partition has been read up to its offset in `ends`."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._has_read(ends))

    def _has_read(self, ends: Mapping[int, int]) -> bool:
        return all(self._next.get(p, 0) >= end for p, end in ends.items())

    async def _seek_to_beginnings(self, reader: TopicReader) -> float:
        """Seek once Kafka can be reached; return for how many seconds it keeps tombstones."""
        while True:
            try:
                kept = await milliseconds_setting(self._settings, self.topic, "delete.retention.ms")
                reader.seek(await reader.beginnings())
                return kept / 1000
            except KafkaError as error:
                log.warning("waiting for Kafka", topic=self.topic, reason=repr(error))
                await asyncio.sleep(self.question_interval)

    async def _read(self, reader: TopicReader) -> None:
        while True:
            try:
                await reader.poll(self._apply_next)
            except OffsetOutOfRangeError as error:
                raise HistoryChangedError(f"an offset is gone: {error!r}") from error
            async with self._progress:
                for partition in self.partitions:
                    self._next[partition] = await reader.position(partition)
                self._progress.notify_all()

    def _apply_next(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        self._apply(partition, records)
        self._history.observe(partition, records)

    async def _ask(self, topic: TopicEnds, deadline: TombstoneDeadline) -> None:
        while True:
            self._asked.clear()
            askers, self._askers = self._askers, []
            try:
                async with asyncio.timeout(self.question_timeout):
                    ends = await self._ask_ends(topic)
            except (KafkaError, TimeoutError) as error:
                log.warning("Kafka does not answer", topic=self.topic, reason=repr(error))
                _answer(askers, UnreachableError(f"Kafka does not answer: {error!r}"))
            except UnreachableError as error:
                log.warning("this is not what was read", topic=self.topic, reason=str(error))
                _answer(askers, error)
            else:
                deadline.check(uptime(), ends, self._next)
                self._answered_at = time.monotonic()
                self._ends = ends
                _answer(askers, ends)
                self._ends_at_start = self._ends_at_start or ends
                if not self.caught_up and self._has_read(self._ends_at_start):
                    if self._finish:
                        await self._finish()
                        self._finish = None
                        continue  # the answer is old by now
                    self.caught_up = True
                    log.info("caught up", topic=self.topic, offsets=ends)
            await asyncio.sleep(self.question_pause)
            if self.caught_up and self._doubted_at == float("-inf"):
                await self._wait_for_askers()

    async def _ask_ends(self, topic: TopicEnds) -> dict[int, int]:
        """Ask where the topic ends, and now and then whether it is still the one that was read.

        Raises:
            KafkaError: Kafka does not answer.
            UnreachableError: the answer does not agree with what was read.
            HistoryChangedError: it has not done so for some time.
        """
        positions, markers = dict(self._next), dict(self._history.markers)
        ends = await topic.ends()
        now = time.monotonic()
        doubt = find_cut(positions, ends)
        if doubt is None and (
            now >= self._compared_at + self.question_interval or self._doubted_at > float("-inf")
        ):
            times = {partition: marker.timestamp for partition, marker in markers.items()}
            doubt = find_difference(markers, await topic.first_since(times))
            later = {partition: time + 1 for partition, time in times.items()}
            doubt = doubt or find_unread(positions, await topic.first_since(later))
            self._compared_at = now
        if doubt is None:
            self._doubted_at = float("-inf")
            return ends
        if self._doubted_at == float("-inf"):
            self._doubted_at = now
        elif now >= self._doubted_at + self.confirm_within:
            self._doubted_at = float("-inf")
            raise HistoryChangedError(doubt)
        raise UnreachableError(doubt)

    async def _wait_for_askers(self) -> None:
        try:
            async with asyncio.timeout(self.question_interval - self.question_pause):
                await self._asked.wait()
        except TimeoutError:
            pass


def _answer(
    askers: list[asyncio.Future[dict[int, int]]], answer: dict[int, int] | UnreachableError
) -> None:
    for asker in askers:
        if asker.done():
            continue
        if isinstance(answer, UnreachableError):
            asker.set_exception(answer)
        else:
            asker.set_result(answer)
