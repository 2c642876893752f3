"""Topic readers: partitions of a topic read without a group, once to the end or for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from service.aiokafka_compat import ended_tasks
from service.kafka import client_options, stopped
from service.settings import KafkaSettings

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
        self._settings = settings

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **client_options(self._settings), enable_auto_commit=False, **self._options()
        )
        await self._consumer.start()
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
        tp = self._partitions[partition]
        found = (await self._consumer.offsets_for_times({tp: max(0, time)}))[tp]
        return None if found is None else int(found.offset)

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
            # An offset that no longer exists means that the log is another one than we read:
            # the error ends the process, and the next one reads it from the beginning.
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": 500,
        }


class TopicFollower:
    """Reads partitions of a topic from the beginning and for ever, in tasks of its own.

    `apply` runs on the event loop. Whoever needs to have read what was there a moment ago asks
    `catch_up`; many askers share one question to the brokers.
    """

    question_interval: float = 1.0
    """Seconds between questions where the topic ends, when nobody asks."""
    question_pause: float = 0.05
    """Least seconds between two questions, whoever asks: at most 20 a second."""
    question_timeout: float = 4.0
    reachable_within: float = 6.0
    """Seconds since Kafka's last answer after which it counts as unreachable."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: Iterable[int],
        apply: Apply,
        finish: Finish | None = None,
    ) -> None:
        self.topic = topic
        self.partitions = tuple(partitions)
        self.caught_up = False
        """True once everything that was there at the start has been read, and finished."""
        self._settings = settings
        self._apply = apply
        self._finish = finish
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
            Exception: `apply` failed, or an offset is gone; what was read is then worth nothing.
        """
        where = (self._settings, self.topic, self.partitions)
        async with TopicReader(*where) as reader, TopicEnds(*where) as ends:
            await self._seek_to_beginnings(reader)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(reader))
                tasks.create_task(self._ask(ends))

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

    async def _seek_to_beginnings(self, reader: TopicReader) -> None:
        while True:
            try:
                reader.seek(await reader.beginnings())
                return
            except KafkaError as error:
                log.warning("waiting for Kafka", topic=self.topic, reason=repr(error))
                await asyncio.sleep(self.question_interval)

    async def _read(self, reader: TopicReader) -> None:
        while True:
            await reader.poll(self._apply)
            async with self._progress:
                for partition in self.partitions:
                    self._next[partition] = await reader.position(partition)
                self._progress.notify_all()

    async def _ask(self, topic: TopicEnds) -> None:
        while True:
            self._asked.clear()
            askers, self._askers = self._askers, []
            try:
                async with asyncio.timeout(self.question_timeout):
                    ends = await topic.ends()
            except (KafkaError, TimeoutError) as error:
                log.warning("Kafka does not answer", topic=self.topic, reason=repr(error))
                _answer(askers, UnreachableError(f"Kafka does not answer: {error!r}"))
            else:
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
            if self.caught_up:
                await self._wait_for_askers()

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
