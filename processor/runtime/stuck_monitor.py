"""Monitors a worker's progress by comparing its ledgers with Kafka's offsets."""

import asyncio
import time
from collections.abc import Callable

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from processor.membership.settling_detector import SettlingDetector
from processor.membership.stuck_detector import StuckDetector
from processor.table.store import PartitionedStore
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, group_member_count
from service.kafka.source_reader import SourceReader, Span
from service.tasks import abort

log = structlog.get_logger(__name__)

POLL_INTERVAL = 2.0
"""Seconds between polls."""
POLL_TIMEOUT = 9.0
"""Seconds that a poll may take; then Kafka counts as unavailable."""
SPAN_TIMEOUT = 3.0
"""Seconds in which a broker must return the spans of its partitions."""
SETTLING_LIMIT = 15.0
"""Seconds that a worker may wait for its partitions, in addition to the time in which it loads
rows. The longest normal rebalance waits for the session (8 s) of a member that is gone."""


class StuckMonitor:
    """Reports when a worker should be restarted, and ends it if it is not.

    A worker that is not restarted ends itself after the same time again, because Docker's restart
    policy, for example, only reacts to the end of a process.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        submissions: str,
        store: PartitionedStore,
        is_expected_to_move: Callable[[int], bool],
        settled: Callable[[], bool],
        limit: float,
        before_exit: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._submissions = submissions
        self._store = store
        self._is_expected_to_move = is_expected_to_move
        self._settled = settled
        self._before_exit = before_exit
        self._detector = StuckDetector(limit)
        self._settling = SettlingDetector(SETTLING_LIMIT, longest_step=2 * POLL_INTERVAL)

    def faults(self, now: float | None = None) -> list[str]:
        """Return why this worker is unhealthy; empty while it is healthy."""
        stuck = self._detector.stuck(time.monotonic() if now is None else now)
        return stuck + self._settling.faults()

    async def run(self) -> None:
        """Poll forever."""
        partitions = range(self._settings.kafka_partitions)
        while True:
            try:
                async with (
                    admin_client(self._settings) as admin,
                    SourceReader(self._settings, self._submissions, partitions) as topic,
                ):
                    await self._watch(admin, topic)
            except KafkaError as error:  # Kafka was unreachable at first
                log.info("Kafka does not respond", reason=repr(error))
            await asyncio.sleep(POLL_INTERVAL)

    async def _watch(self, admin: AIOKafkaAdminClient, topic: SourceReader) -> None:
        while True:
            spans = await self._read_offsets(admin, topic)
            now = time.monotonic()
            self._detector.update(now, self._ledgers(), spans)
            self._settling.observe(
                now,
                settled=self._settled(),
                rows=self._store.records_read,
                kafka_responds=spans is not None,
            )
            if reasons := self._detector.stuck(now, times=2) + self._settling.faults(times=1.2):
                self._before_exit()
                abort("this worker is stuck", reason="; ".join(reasons))
            await asyncio.sleep(POLL_INTERVAL)

    async def _read_offsets(
        self, admin: AIOKafkaAdminClient, topic: SourceReader
    ) -> dict[int, Span] | None:
        """Return the spans of partitions whose leader responds.

        Returns None if no leader responds, or if the group's coordinator is unavailable.
        """
        try:
            async with asyncio.timeout(POLL_TIMEOUT):
                spans = await topic.spans(SPAN_TIMEOUT)
                # A worker without a coordinator has to wait, so the coordinator must respond as
                # well, and must have loaded the group.
                await group_member_count(admin, self._group)
        except (KafkaError, TimeoutError, OSError) as error:
            log.info("Kafka does not respond", reason=repr(error))
            return None
        return spans or None

    def _ledgers(self) -> dict[int, int]:
        """Return the last of Kafka's offsets that each ledger covers."""
        return {
            partition: state.ledger.next_offset - 1
            for partition, state in self._store.partitions.items()
            if state.loaded and self._is_expected_to_move(partition)
        }
