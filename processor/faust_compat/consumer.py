"""Rule 3, second half: consumption continues from the ledger.

Faust seeks to the group's committed offsets. It does not seek a partition without a commit, so
records fetched and dropped during the rebalance would be lost; so would records before a commit
that is ahead of a restored state. The ledger is written together with the rows that it covers, so
its next offset is always correct, and the group's commit only follows it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processor.faust_compat.poll import merge_records
from processor.faust_compat.wanted_commits import WantedCommits
from service.kafka.aiokafka_compat.commit_guard import guard_commits
from service.kafka.aiokafka_compat.consumer import set_fetch_max_wait, stop_and_close
from service.kafka.aiokafka_compat.coordinator import coordinator_of
from service.kafka.fetch_gathering import FetchGathering
from service.tasks import abort

log = structlog.get_logger(__name__)

GATHER_BYTES = 64 * 1024
"""Bytes with which a fetch under load ends: compressed frames of about two thousand submissions.
With more, a submission costs no less."""
FETCH_WAIT_MS = 300
"""Maximum time that a broker delays a fetch without records (Faust's default is 1.5 s).

A partition that was just sought is not part of the running fetch and waits for its end, which would
delay the first submission after a rebalance by that time.
"""

SEEK_TIMEOUT = 6.0
"""Seconds. After its own request timeout Faust would continue without the seek."""
COMMIT_TIMEOUT = 2.0
"""Seconds that a commit may take before it is left to the next attempt."""
COMMIT_INTERVAL = 0.5
"""Seconds between attempts to commit the wanted offsets."""
STOP_TIMEOUT = 5.0
"""Seconds for a consumer's stop, as the coordinator may be unavailable."""
RETRY_PAUSE = 0.2
"""Seconds before a failed fetch is retried."""

NextOffsets = Callable[[], dict[TP, int]]
"""Returns the next source offset of each partition whose state is loaded."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which Faust's consumer fetches."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        set_fetch_max_wait(consumer, FETCH_WAIT_MS)
        start = consumer.start

        async def started() -> None:
            await start()
            coordinator = coordinator_of(consumer)
            transport.on_coordinator(coordinator)  # before it joins the group
            guard_commits(coordinator)

        consumer.start = started
        return consumer

    async def on_thread_stop(self) -> None:
        """Stop, and end the thread whatever happens.

        Faust's method raises the CancelledError of a fetch that waits for a retry, which ends the
        thread before it signals its end, so the worker's stop waits forever.
        """
        await super(driver.AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await stop_and_close(self._consumer)
            except (Exception, asyncio.CancelledError) as error:  # whatever it is, the thread ends
                log.info("consumer abandoned", reason=repr(error))

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        found = await super().getmany(active_partitions, timeout)
        return merge_records(found, self.consumer.transport.source)

    async def _fetch_records(self, consumer: Any, *args: Any, **options: Any) -> Any:
        found = await super()._fetch_records(consumer, *args, **options)
        self._gathering.observe(consumer, bool(found))
        return found

    @cached_property
    def _gathering(self) -> FetchGathering:
        return FetchGathering(FETCH_WAIT_MS, GATHER_BYTES)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the offsets that Faust has acknowledged, or leave them to a later commit.

        Faust's method crashes the worker on an error, waits forever for an unavailable coordinator,
        and clears the metadata that marks a stopped partition for gateways.
        """
        own = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        self.tp_last_committed_at.update(dict.fromkeys(own, time.monotonic()))
        self.wanted.acknowledge(own)
        return await self.commit_wanted()

    @cached_property
    def wanted(self) -> WantedCommits:
        wanted: WantedCommits = self.consumer.wanted
        return wanted

    @cached_property
    def _committing(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def commit_wanted(self) -> bool:
        """Try to commit everything that is wanted; return whether nothing is left.

        Runs in the consumer's thread, one attempt at a time.
        """
        consumer = self._ensure_consumer()
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT), self._committing:
                commits = self.wanted.pending(self.assignment())
                if commits:
                    await consumer.commit(
                        {TopicPartition(tp.topic, tp.partition): c for tp, c in commits.items()}
                    )
                    self.wanted.committed(commits)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.info("commit failed: retrying", reason=repr(error))
            return False
        return True


class LedgerConsumer(driver.Consumer):
    """Faust's consumer, which seeks to the ledgers' offsets."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    @cached_property
    def wanted(self) -> WantedCommits:
        """The commits that the group should have."""
        return WantedCommits()

    async def on_start(self) -> None:
        await super().on_start()
        self.add_future(self._commit_wanted())

    async def _commit_wanted(self) -> None:
        """Retry failed commits, and make those that no caller waits for."""
        while not self.should_stop:
            await self.sleep(COMMIT_INTERVAL)
            if self.wanted:
                await self._thread.call_thread(self._thread.commit_wanted)

    def _new_offset(self, tp: TP) -> int | None:
        """Commit the ledger's offset, as an event represents many records (see poll.py)."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        offsets: dict[TP, int] = self.transport.next_offsets()
        return offsets.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Ignore offsets without an event: no commit depends on them."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust would log partitions without progress, which stuck_monitor detects.

        It looks at each partition every 1.25 s, and ends the worker if a position is not known yet.
        """

    async def perform_seek(self) -> None:
        """Seek each loaded partition to its ledger's next offset; others are sought after their
        load.

        Raises:
            IllegalStateError: another rebalance has begun; Faust starts over.
        """
        offsets: dict[TP, int] = self.transport.next_offsets()
        if not offsets:
            return
        try:
            async with asyncio.timeout(SEEK_TIMEOUT):
                await self.seek_wait(offsets)
        except IllegalStateError:
            raise
        except Exception as error:  # continuing from another offset would skip frames
            abort("could not seek to the ledger", reason=repr(error), exc_info=error)
        self._committed_offset.update(offsets)
        self.wanted.resume(offsets)

    async def rewind(self, tp: TP, offset: int) -> None:
        """Seek a partition while fetching continues, even to before its acknowledged offset.

        Raises:
            IllegalStateError: the partition is no longer assigned to this worker.
            KafkaError, TimeoutError: the position could not be set.
        """
        await self.seek_wait({tp: offset})
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self._gap[tp].clear()
        self._committed_offset[tp] = offset
        self.wanted.resume({tp: offset})

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch; on an error of the group return nothing, so the worker continues
        (membership_monitor)."""
        try:
            return await super()._getmany(active_partitions, timeout)
        except KafkaError as error:
            log.warning("fetch failed: retrying", reason=repr(error))
            await asyncio.sleep(RETRY_PAUSE)
            return {}


class LedgerTransport(driver.Transport):
    """Faust's transport with a LedgerConsumer."""

    Consumer = LedgerConsumer

    def __init__(
        self,
        *args: Any,
        source: str,
        next_offsets: NextOffsets,
        on_coordinator: Callable[[Any], None],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.source = source
        self.next_offsets = next_offsets
        self.on_coordinator = on_coordinator
