"""Rules 3 and 5: which partitions this worker owns, and which events are current.

Rule 3, stop the flow until after the seek: at the end of each recovery Faust resumes the source
partitions, then seeks, then clears the stream's queue, so frames fetched in between are lost. So
the flow is stopped again before Faust resumes it; Faust starts it after its seek (LedgerConsumer).

Rule 5, drop events of older generations: such events stay in the take buffer during a rebalance.
They are neither processed nor acknowledged: the owner of the partition reads them again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP, AppT, EventT

from processor.faust_compat.consumer_thread import group_coordinator, request_rejoin
from processor.membership.heartbeat import HeartbeatMonitor
from processor.metrics import ProcessorMetrics
from processor.source.source_check import SourceCheck
from processor.table.state_table import StateTable
from service.kafka.clients import is_temporary
from service.tasks import abort, extend

log = structlog.get_logger(__name__)

LOAD_TIMEOUT = 15.0
"""Seconds that a load may take without reading a record."""
LOCK_TIMEOUT = 45.0
"""Seconds to wait for a flush (at most 30 s), including its repairs."""
RETRY_PAUSE = 0.2
"""Seconds before a load continues after a temporary error."""
REJOIN_DELAY = 2.0
"""Seconds after which a worker without assigned partitions joins again."""


T = TypeVar("T")


class PartitionAssignment:
    """Loads the state of newly assigned partitions, and identifies events of older generations."""

    def __init__(
        self,
        app: AppT[Any],
        table: StateTable,
        heartbeat: HeartbeatMonitor,
        source: SourceCheck,
        metrics: ProcessorMetrics,
    ) -> None:
        self._app = app
        self._table = table
        self._heartbeat = heartbeat
        self._source = source
        self._metrics = metrics
        self.is_ready = False
        """True while this worker is a member of its group and has loaded its partitions."""
        self._has_rejoined = False
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_partitions_assigned.connect(self._on_assigned)
        app.on_rebalance_complete.connect(self._on_rebalance_complete)

    def is_current(self, event: EventT[Any]) -> bool:
        message = event.message
        return (
            message.generation_id == self._app.consumer_generation_id
            and self._table.store.owned(message.partition) is not None
        )

    async def _on_revoked(self, app: AppT[Any], revoked: set[TP], **_: Any) -> None:
        self.is_ready = False

    async def _on_assigned(self, app: AppT[Any], assigned: set[TP], **_: Any) -> None:
        self._metrics.rebalances.inc()
        self._heartbeat.on_joined(group_coordinator(app))
        if not assigned and not self._has_rejoined:
            # A restarted static member inherits its predecessor's assignment. That is empty if
            # Kafka did not know the topic then, and no other event would rebalance the group.
            self._has_rejoined = True
            log.warning("no partitions assigned: joining the group again")
            request_rejoin(app, REJOIN_DELAY)

    async def _on_rebalance_complete(self, app: AppT[Any], **_: Any) -> None:
        app.consumer.stop_flow()
        app.flow_control.suspend()
        try:
            await self._load()
        except Exception as error:  # after any error the state is unknown
            abort(
                "the state could not be loaded",
                reason=repr(error),
                without_leader=await self._table.store.without_leader(),
                exc_info=error,
            )
        self.is_ready = True

    async def _load(self) -> None:
        lock = self._table.lock
        async with asyncio.timeout(LOCK_TIMEOUT):
            await lock.acquire()
        try:
            with self._metrics.load_seconds.time():
                await self._load_rows()
                await self._source.check_loaded()
                await self._table.rewrite_regressed(self._table.store.loaded())
        finally:
            lock.release()

    async def _load_rows(self) -> None:
        store = self._table.store
        async with asyncio.timeout(LOAD_TIMEOUT) as timeout:
            await _retrying(lambda: store.load(lambda: extend(timeout, LOAD_TIMEOUT)))
            if store.lost_end:
                await self._table.changelog.renew()


async def _retrying(read: Callable[[], Awaitable[T]]) -> T:
    """Retry temporary errors of Kafka; the caller sets a deadline."""
    while True:
        try:
            return await read()
        except KafkaError as error:
            if not is_temporary(error):
                raise
            log.warning("could not load the state: retrying", reason=repr(error))
            await asyncio.sleep(RETRY_PAUSE)
