"""Compares ledgers with their source periodically: starts a new history, or stops a partition.

Comparisons run at every load, at a record of another leader epoch, and every few seconds, so that a
recreated topic or a log that lost its end does not continue at offsets that the ledger already
covers. Kafka is queried without the table's lock, and per partition, so that one with insufficient
information does not delay the others.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from aiokafka.errors import KafkaError

from processor.core.partition_state import PartitionState
from processor.core.source_history import Diverged, Finding, Uncertain
from processor.core.write_batch import WriteBatch
from processor.metrics import ProcessorMetrics
from processor.source import comparison
from processor.source.comparison import compare
from processor.source.gap_check import log_lost
from processor.source.stopped_ledgers import StoppedLedgers
from processor.table.state_table import StateTable
from service.kafka.aiokafka_compat.topic_details import TopicDetails
from service.kafka.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between checks for another topic id or leader epoch."""
LOADED_TIMEOUT = comparison.TIMEOUT + 1
"""Seconds for the comparison after a load, including its connection."""
STOPPED_INTERVAL = 5.0
"""Seconds between checks of stopped partitions, for which an operator may have decided."""

OLDER_EPOCHS = 3
"""Consecutive checks after which a leader epoch below the newest one seen is accepted. A broker
that was frozen or disconnected reports one for a moment; a broker that was restored from an older
copy of its disk, permanently."""

Announce = Callable[[int, int, str], None]
"""Marks a partition as stopped for gateways: partition, Kafka's next offset, reason."""
Resume = Callable[[int], None]
"""Lets a partition resume at its ledger's next offset."""


class SourceCheck:
    """Compares the ledgers of this worker's partitions with the submissions topic."""

    def __init__(
        self,
        table: StateTable,
        submissions: str,
        announce: Announce,
        resume: Resume,
        metrics: ProcessorMetrics,
    ) -> None:
        self._table = table
        self._submissions = submissions
        self._announce = announce
        self._resume = resume
        self._metrics = metrics
        self._stopped = StoppedLedgers(table)
        self._stopped_at = 0.0
        self._requested: set[int] = set()
        self._older: dict[int, int] = {}
        """Consecutive checks in which a partition's leader epoch was below the newest one seen."""
        self._request = asyncio.Event()

    def request(self, partitions: Iterable[int]) -> None:
        """Request a comparison of paused partitions; each is resumed afterwards."""
        self._requested.update(partitions)
        self._request.set()

    async def check_loaded(self) -> None:
        """Compare the ledgers that were just loaded. The caller must hold the table's lock.

        A partition with insufficient information from Kafka is not loaded until there is more.
        """
        partitions = self._table.store.partitions
        states = {
            p: state
            for p, state in partitions.items()
            if state.loaded or state.is_blocked_by_source
        }
        if not states:
            return
        self._requested.clear()
        found: dict[int, Finding] = {}
        try:
            async with (
                asyncio.timeout(LOADED_TIMEOUT),
                SourceReader(self._table.settings, self._submissions, states) as reader,
            ):
                found = await compare(reader, states)
        except (KafkaError, TimeoutError) as error:
            log.warning("could not compare the ledgers with their source", reason=repr(error))
        for partition, state in states.items():
            if partition not in found and state.source_fault is None:
                log.warning(
                    "partition waits for the comparison with its source", partition=partition
                )
                state.await_source()
        await self._apply(states, found, at_rest=states.keys())

    async def run(self) -> None:
        """Check periodically, forever."""
        partitions = range(self._table.settings.kafka_partitions)
        while True:
            try:
                async with SourceReader(
                    self._table.settings, self._submissions, partitions
                ) as reader:
                    while True:
                        await self._watch(reader)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(INTERVAL):
                                await self._request.wait()
            except (KafkaError, TimeoutError) as error:
                log.warning("could not check the source", reason=repr(error))
            await asyncio.sleep(INTERVAL)

    async def _watch(self, reader: SourceReader) -> None:
        self._request.clear()
        details = await reader.describe()
        self._accept_older_epochs(details)
        states = self._suspects(details)
        if time.monotonic() > self._stopped_at:
            await self._stopped.reload()
            states |= self._stopped.states()
            self._stopped_at = time.monotonic() + STOPPED_INTERVAL
        if not states:
            return
        found = await compare(reader, states)
        async with self._table.lock:
            at_rest = {
                p
                for p, state in states.items()
                if state.is_blocked_by_source or p in self._requested
            }
            continued = await self._apply(states, found, at_rest)
        for partition in continued:
            self._resume(partition)

    def _accept_older_epochs(self, details: TopicDetails) -> None:
        """Forget the newest leader epoch of partitions whose leaders stay below it.

        Kafka would reject every comparison with that epoch.
        """
        older = {
            partition: self._older.get(partition, 0) + 1
            for partition, state in self._table.store.partitions.items()
            if details.leader(partition).exists
            and details.id == state.source_topic
            and details.leader(partition).epoch < state.source_epoch
        }
        for partition in [p for p, times in older.items() if times >= OLDER_EPOCHS]:
            del older[partition]
            state = self._table.store.partitions[partition]
            log.warning(
                "the leader epoch decreased",
                partition=partition,
                epoch=details.leader(partition).epoch,
                newest_seen=state.source_epoch,
            )
            state.forget_source_epoch()
        self._older = older

    def _suspects(self, details: TopicDetails) -> dict[int, PartitionState]:
        """Return the partitions that wait for a comparison, or whose topic id or leader epoch
        changed.

        Partitions without a leader are left out, because they cannot be compared.
        """

        def is_suspect(partition: int, state: PartitionState) -> bool:
            return state.awaits_source or (
                state.loaded
                and (
                    partition in self._requested
                    or details.id != state.source_topic
                    or details.leader(partition).epoch > state.source_epoch
                )
            )

        return {
            partition: state
            for partition, state in self._table.store.partitions.items()
            if details.leader(partition).exists and is_suspect(partition, state)
        }

    async def _apply(
        self,
        states: Mapping[int, PartitionState],
        found: Mapping[int, Finding],
        at_rest: Iterable[int],
    ) -> list[int]:
        """Resume or stop partitions; return those to be sought. The caller must hold the lock.

        A partition that a batch, a load or another worker has changed since is left to the next
        check. No event of the partitions `at_rest` is in flight, so their deleted records can be
        counted.
        """
        batches: dict[int, WriteBatch] = {}
        continued = []
        for partition, finding in found.items():
            state = states[partition]
            is_current = self._table.is_owned(partition, state) and state.ledger == finding.ledger
            if not is_current or not (state.loaded or state.is_blocked_by_source):
                continue
            is_at_rest = partition in at_rest
            self._requested.discard(partition)
            if isinstance(finding.comparison, Uncertain):
                self._stop(partition, state, finding.comparison.reason)
                continue
            batch, log_state = WriteBatch(state), finding.log_state
            if isinstance(finding.comparison, Diverged):
                self._begin_history(partition, batch, finding, finding.comparison)
                batches[partition] = batch
            state.resume_from_source(log_state.topic, log_state.leader_epoch)
            lost = log_state.first - batch.ledger.next_offset
            if is_at_rest and lost > 0:
                log_lost(partition, lost)
                batch.ledger.skip_to(log_state.first, lost, log_state.leader_epoch, log_state.topic)
                batches[partition] = batch
            if is_at_rest or partition in batches:
                continued.append(partition)
        if batches:
            await self._table.flush(batches)
        await self._table.rewrite_regressed(continued)
        return continued

    def _stop(self, partition: int, state: PartitionState, reason: str) -> None:
        if state.source_fault != reason:
            log.error(
                "partition stopped: its source is uncertain",
                partition=partition,
                reason=reason,
                command=f"tobogganing history begin {partition} --at OFFSET",
            )
        state.stop_for_source(reason)
        self._announce(partition, state.ledger.next_offset, reason)

    def _begin_history(
        self, partition: int, batch: WriteBatch, finding: Finding, parted: Diverged
    ) -> None:
        log_state = finding.log_state
        batch.ledger.cover_uncounted(batch.state.newest_offset())
        batch.ledger.begin_history(parted.start, log_state.leader_epoch, log_state.topic)
        log.error(
            "the source lost records: a new history begins",
            partition=partition,
            reason=parted.reason,
            offset=parted.start,
            logical_offset=batch.ledger.offset + 1,
        )
        self._metrics.histories.inc()
