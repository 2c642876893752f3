"""Tails partitions of a topic without a consumer group."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from service.clock import uptime
from service.config.settings import KafkaSettings
from service.kafka.clients import when_reachable
from service.kafka.reader import Apply, TopicOffsets, TopicReader
from service.kafka.tombstones import TombstoneDeadline
from service.kafka.topic_history import (
    HistoryChangedError,
    OutdatedStateError,
    TopicHistory,
    find_cut,
    find_difference,
    find_unread,
)
from service.kafka.topics import milliseconds_setting
from service.tasks import run_together

log = structlog.get_logger(__name__)

IDLE_WAIT_MS = 1500
"""Maximum milliseconds that a broker delays a fetch without records; longer than a reader's, since
a tailer seeks only at its start, and each fetch costs CPU. A record ends the wait."""

OnCaughtUp = Callable[[], Awaitable[None]]
"""Called once when the records that existed at the start have been read."""


class KafkaUnreachableError(Exception):
    """Kafka did not return the end offsets in time."""


class TopicTailer:
    """Reads partitions of a topic continuously from the start, in its own tasks.

    `apply` runs on the event loop. `catch_up` waits until everything that existed when it was
    called has been read; callers share requests to the brokers. If the topic's records have
    changed, or tombstones may have been missed, `clear` is called and the topic is read again from
    the start. `gathers`: see TopicReader.
    """

    poll_interval: float = 1.0
    """Seconds between requests for end offsets while no caller waits."""
    compare_interval: float = 3.0
    """Seconds between two comparisons of the records that were read with those in Kafka."""
    min_poll_interval: float = 0.05
    """Minimum seconds between two requests: at most 20 a second."""
    poll_timeout: float = 4.0
    unreachable_after: float = 6.0
    """Seconds since Kafka's last response after which it counts as unreachable."""
    confirm_within: float = 3.0
    """Seconds for which Kafka must report different records before the topic counts as changed. A
    broker that was frozen briefly responds as if it still led the partition."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: Iterable[int],
        apply: Apply,
        on_caught_up: OnCaughtUp | None = None,
        clear: Callable[[], None] | None = None,
        *,
        gathers: bool = False,
    ) -> None:
        self.topic = topic
        self.partitions = tuple(partitions)
        self.caught_up = False
        """Whether all records that existed at the start have been read and `on_caught_up` has
        finished."""
        self._settings = settings
        self._apply = apply
        self._on_caught_up = on_caught_up
        self._clear = clear
        self._gathers = gathers
        self._history = TopicHistory()
        self._compared_at = self._doubted_at = float("-inf")
        self._retention = self._retention_read_at = float("-inf")
        self._requested = asyncio.Event()
        self._waiters: list[asyncio.Future[dict[int, int]]] = []
        self._progress = asyncio.Condition()
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._ends_at_start: dict[int, int] = {}
        self._last_response: float | None = None

    def is_reachable(self, now: float | None = None) -> bool:
        """Return whether Kafka has responded recently; `now` is on the monotonic clock."""
        return self.seconds_since_response(now) < self.unreachable_after

    def seconds_since_response(self, now: float | None = None) -> float:
        """Return the seconds since Kafka last returned end offsets; infinite before the first
        response."""
        if self._last_response is None:
            return float("inf")
        return (time.monotonic() if now is None else now) - self._last_response

    def lag(self) -> dict[int, int]:
        """Return the number of offsets to be read in each partition, as of Kafka's last
        response."""
        return {p: max(0, end - self._positions.get(p, 0)) for p, end in self._ends.items()}

    async def run(self) -> None:
        """Tail the topic until cancelled.

        Raises:
            OutdatedStateError: the topic must be read from its beginning, and there is no `clear`.
            Exception: `apply` failed; the state is then not valid.
        """
        while True:
            try:
                await self._follow()
            except OutdatedStateError as error:
                if self._clear is None:
                    raise
                log.error(
                    "reading the topic from its beginning", topic=self.topic, reason=str(error)
                )
                self.caught_up = False
                self._positions, self._ends_at_start = {}, {}
                self._history = TopicHistory()
                self._clear()

    async def _follow(self) -> None:
        source = (self._settings, self.topic, self.partitions)
        async with (
            when_reachable(
                lambda: TopicReader(*source, gathers=self._gathers, wait_ms=IDLE_WAIT_MS)
            ) as reader,
            when_reachable(lambda: TopicOffsets(*source)) as ends,
        ):
            await self._seek_to_beginnings(reader)
            deadline = TombstoneDeadline(uptime())
            await run_together(self._read(reader), self._poll_end_offsets(ends, deadline))

    async def catch_up(self, timeout: float) -> None:
        """Wait until all records have been read that existed when this was called.

        Raises:
            KafkaUnreachableError: Kafka does not respond, or reading takes longer than `timeout`
                seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                ends: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
                self._waiters.append(ends)
                self._requested.set()
                await self.wait_for_offsets(await ends)
        except TimeoutError as error:
            raise KafkaUnreachableError(f"{self.topic} was not read to its end in time") from error

    async def wait_for_offsets(self, ends: Mapping[int, int]) -> None:
        """Wait until each partition has been read up to its offset in `ends`."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._has_read(ends))

    def _has_read(self, ends: Mapping[int, int]) -> bool:
        return all(self._positions.get(p, 0) >= end for p, end in ends.items())

    async def _seek_to_beginnings(self, reader: TopicReader) -> None:
        """Seek to the first offsets, once Kafka is reachable."""
        while True:
            try:
                reader.seek(await reader.beginning_offsets())
                return
            except KafkaError as error:
                log.warning("waiting for Kafka", topic=self.topic, reason=repr(error))
                await asyncio.sleep(self.poll_interval)

    async def _read(self, reader: TopicReader) -> None:
        while True:
            try:
                await reader.poll(self._apply_next)
            except OffsetOutOfRangeError as error:
                raise HistoryChangedError(f"an offset no longer exists: {error!r}") from error
            async with self._progress:
                for partition in self.partitions:
                    self._positions[partition] = await reader.position(partition)
                self._progress.notify_all()

    def _apply_next(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        self._apply(partition, records)
        self._history.observe(partition, records)

    async def _poll_end_offsets(self, topic: TopicOffsets, deadline: TombstoneDeadline) -> None:
        while True:
            self._requested.clear()
            waiters, self._waiters = self._waiters, []
            try:
                async with asyncio.timeout(self.poll_timeout):
                    ends = await self._request_end_offsets(topic)
                    retention = await self._tombstone_retention(deadline)
            except (KafkaError, TimeoutError) as error:
                log.warning("Kafka does not respond", topic=self.topic, reason=repr(error))
                _resolve(waiters, KafkaUnreachableError(f"Kafka does not respond: {error!r}"))
            except KafkaUnreachableError as error:
                log.warning(
                    "the topic differs from what was read", topic=self.topic, reason=str(error)
                )
                _resolve(waiters, error)
            else:
                deadline.check(uptime(), retention, ends, self._positions)
                self._last_response = time.monotonic()
                self._ends = ends
                _resolve(waiters, ends)
                self._ends_at_start = self._ends_at_start or ends
                if not self.caught_up and self._has_read(self._ends_at_start):
                    if self._on_caught_up:
                        await self._on_caught_up()
                        self._on_caught_up = None
                        continue  # the response is outdated by now
                    self.caught_up = True
                    log.info("caught up", topic=self.topic, offsets=ends)
            await asyncio.sleep(self.min_poll_interval)
            if self.caught_up and self._doubted_at == float("-inf"):
                await self._wait_for_request()

    async def _tombstone_retention(self, deadline: TombstoneDeadline) -> float:
        """Return for how many seconds Kafka keeps tombstones; requested only while the reader lags.

        The setting may be reduced at any time. An error leaves the deadline unchanged.
        """
        now = uptime()
        if deadline.seconds_behind(now) < self.unreachable_after:
            return float("inf")
        if now >= self._retention_read_at + self.poll_interval:
            setting = "delete.retention.ms"
            self._retention = await milliseconds_setting(self._settings, self.topic, setting) / 1000
            self._retention_read_at = now
        return self._retention

    async def _request_end_offsets(self, topic: TopicOffsets) -> dict[int, int]:
        """Request the end offsets, and check from time to time that the topic still contains the
        records read.

        Raises:
            KafkaError: Kafka does not respond.
            KafkaUnreachableError: the topic differs from what was read.
            HistoryChangedError: it has differed for `confirm_within` seconds.
        """
        positions, markers = dict(self._positions), dict(self._history.markers)
        ends = await topic.end_offsets()
        now = time.monotonic()
        doubt = find_cut(positions, ends)
        if doubt is None and (
            now >= self._compared_at + self.compare_interval or self._doubted_at > float("-inf")
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
        raise KafkaUnreachableError(doubt)

    async def _wait_for_request(self) -> None:
        try:
            async with asyncio.timeout(self.poll_interval - self.min_poll_interval):
                await self._requested.wait()
        except TimeoutError:
            pass


def _resolve(
    waiters: list[asyncio.Future[dict[int, int]]], result: dict[int, int] | KafkaUnreachableError
) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if isinstance(result, KafkaUnreachableError):
            waiter.set_exception(result)
        else:
            waiter.set_result(result)
