"""Rule 3, second half: the ledger says where to go on.

Faust seeks to the group's committed offsets. A partition that has none yet is then not sought at
all, and what was fetched and dropped during the rebalance is passed over; one whose commit ran
ahead of a restored state would be passed over too. The ledger is written with the rows that it
covers, so its next offset is right by definition, and the group's commit merely follows it.
"""

import asyncio
import contextlib
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

from processor.runtime.poll import merge_records
from processor.runtime.wanted_commits import WantedCommits
from service.kafka.aiokafka_compat import set_fetch_max_wait
from service.kafka.fetch_gathering import FetchGathering
from service.tasks import abort

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 300
"""Longest that a broker holds a fetch back for news (Faust's is 1.5 s).

A partition that was sought is not in the fetch that is under way, and waits for its end: the first
submission after a rebalance would not be seen for so long.
"""

SEEK_TIMEOUT = 6.0
"""Seconds. After its request timeout Faust would continue without the seek."""
COMMIT_TIMEOUT = 2.0
"""Seconds that a commit may take before it is left to the next attempt."""
COMMIT_INTERVAL = 0.5
"""Seconds between two attempts to commit what is wanted."""
RETRY_PAUSE = 0.2
"""Seconds before a failed fetch is repeated."""

NextOffsets = Callable[[], dict[TP, int]]
"""Returns the next source offset of each partition whose state is loaded."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that Faust's consumer fetches in."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        set_fetch_max_wait(consumer, FETCH_WAIT_MS)
        start = consumer.start

        async def started() -> None:
            await start()
            transport.on_coordinator(consumer._coordinator)  # before it joins the group

        consumer.start = started
        return consumer

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        found = await super().getmany(active_partitions, timeout)
        return merge_records(found, self.consumer.transport.source)

    async def _fetch_records(self, consumer: Any, *args: Any, **options: Any) -> Any:
        found = await super()._fetch_records(consumer, *args, **options)
        self._gathering.observe(consumer, bool(found))
        return found

    @cached_property
    def _gathering(self) -> FetchGathering:
        return FetchGathering(FETCH_WAIT_MS)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit what Faust has acknowledged, or leave it to a later commit.

        Faust's own method crashes the worker on an error, waits for ever for a coordinator that is
        away, and clears the metadata that tells gateways of a stopped partition.
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
        """Try to commit all that is wanted, one attempt at a time; return whether nothing is left.

        Runs in the consumer's thread.
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
            log.info("commit follows later", reason=repr(error))
            return False
        return True


class LedgerConsumer(driver.Consumer):
    """Faust's consumer, seeking by the ledger."""

    logger = logging.getLogger("mode")  # where Faust tells of starts and stops

    @cached_property
    def wanted(self) -> WantedCommits:
        """What the group's commits should say."""
        return WantedCommits()

    async def on_start(self) -> None:
        await super().on_start()
        self.add_future(self._commit_wanted())

    async def _commit_wanted(self) -> None:
        """Repeat commits that did not succeed, and make those that nobody waits for."""
        while not self.should_stop:
            await self.sleep(COMMIT_INTERVAL)
            if self.wanted:
                await self._thread.call_thread(self._thread.commit_wanted)

    def _new_offset(self, tp: TP) -> int | None:
        """Commit what the ledger counts; an event stands for many records (see poll)."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        offsets: dict[TP, int] = self.transport.next_offsets()
        return offsets.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do not note offsets that no event has: nothing is committed by them."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def verify_all_partitions_active(self) -> None:
        """Let Faust log partitions that stand still.

        It looks every 1.25 s and fails where a position is not known yet: a worker that started on
        a busy machine died of it.
        """
        with contextlib.suppress(AssertionError):
            await super().verify_all_partitions_active()

    async def perform_seek(self) -> None:
        """Seek every loaded partition to where its ledger ends (the others after they are loaded).

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
        except Exception as error:  # continuing from elsewhere would pass over frames
            abort("could not seek to the ledger", reason=repr(error), exc_info=error)
        self._committed_offset.update(offsets)
        self.wanted.resume(offsets)

    async def rewind(self, tp: TP, offset: int) -> None:
        """Seek a partition whose fetching goes on, also to before what was acknowledged of it.

        Raises:
            IllegalStateError: it is not this worker's any more.
            KafkaError, TimeoutError: the position could not be set.
        """
        await self.seek_wait({tp: offset})
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self._gap[tp].clear()
        self._committed_offset[tp] = offset
        self.wanted.resume({tp: offset})

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch, or fetch later: an error of the group ends no worker (see membership_monitor)."""
        try:
            return await super()._getmany(active_partitions, timeout)
        except KafkaError as error:
            log.warning("fetch failed: retrying", reason=repr(error))
            await asyncio.sleep(RETRY_PAUSE)
            return {}


class LedgerTransport(driver.Transport):
    """Faust's transport with that consumer."""

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
