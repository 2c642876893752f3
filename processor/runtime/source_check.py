"""Keeps ledgers and their source together: begins a new history, or stops a partition.

At every load, when a record of another leader epoch comes, and every few seconds: a topic that is
recreated, or whose end is lost, must not go on under offsets that the ledger covers already. Kafka
is asked without the table's lock, and partition by partition: one that it says too little of holds
up no other.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from aiokafka.errors import KafkaError

from processor.core.partition_state import PartitionState
from processor.core.source_history import Finding, Parted, Uncertain
from processor.core.write_batch import WriteBatch
from processor.metrics import ProcessorMetrics
from processor.runtime import source_comparison
from processor.runtime.gap_check import log_lost
from processor.runtime.source_comparison import compare
from processor.runtime.stopped_ledgers import StoppedLedgers
from processor.runtime.table import StateTable
from service.kafka.kafka_compat import TopicDetails
from service.kafka.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between two checks whether the topic, or the leader of a partition, is another one."""
LOADED_TIMEOUT = source_comparison.TIMEOUT + 1
"""Seconds for the comparison of what was loaded, with its connection. Below that of a load."""
STOPPED_INTERVAL = 5.0
"""Seconds between two checks of stopped partitions: an operator may have decided."""

OLDER_EPOCHS = 3
"""Checks in a row after which a leader epoch below the newest seen is believed. A broker that was
frozen or cut off says so for a moment; one that was restored from an older copy of its disk, for
ever."""

Announce = Callable[[int, int, str], None]
"""Tells gateways that a partition is stopped: partition, Kafka's next offset, reason."""
Resume = Callable[[int], None]
"""Lets a partition continue after its ledger."""


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
        """Checks in a row in which a partition's leader epoch was below the newest seen."""
        self._request = asyncio.Event()

    def request(self, partitions: Iterable[int]) -> None:
        """Compare partitions of which nothing is folded meanwhile; each is resumed afterwards."""
        self._requested.update(partitions)
        self._request.set()

    async def check_loaded(self) -> None:
        """Compare the ledgers that a load has just read. The table's lock must be held.

        A partition that Kafka says too little of is not loaded until it says more.
        """
        partitions = self._table.store.partitions
        states = {p: state for p, state in partitions.items() if state.loaded or state.is_held}
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
            log.warning("the source could not be compared", reason=repr(error))
        for partition, state in states.items():
            if partition not in found and state.source_fault is None:
                log.warning("partition waits to be compared with its source", partition=partition)
                state.await_source()
        await self._apply(states, found, at_rest=states.keys())

    async def run(self) -> None:
        """Check again and again, for ever."""
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
                log.warning("the source could not be checked", reason=repr(error))
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
            at_rest = {p for p, state in states.items() if state.is_held or p in self._requested}
            continued = await self._apply(states, found, at_rest)
        for partition in continued:
            self._resume(partition)

    def _accept_older_epochs(self, details: TopicDetails) -> None:
        """Forget the newest leader epoch of partitions whose leaders stay below it.

        A comparison that names it would be refused for ever.
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
                "the leader epoch went back",
                partition=partition,
                epoch=details.leader(partition).epoch,
                newest_seen=state.source_epoch,
            )
            state.forget_source_epoch()
        self._older = older

    def _suspects(self, details: TopicDetails) -> dict[int, PartitionState]:
        """Partitions that wait for a comparison, or whose topic or leader epoch is another one now.

        Nothing can be compared of a partition without a leader.
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
        """Let partitions continue or stop; return those to be sought. The lock must be held.

        What a batch, a load or another worker has changed meanwhile is left for the next check.
        Nothing that was fetched of the partitions `at_rest` is folded later, so what is deleted of
        them can be counted.
        """
        batches: dict[int, WriteBatch] = {}
        continued = []
        for partition, finding in found.items():
            state = states[partition]
            is_current = self._table.is_owned(partition, state) and state.ledger == finding.ledger
            if not is_current or not (state.loaded or state.is_held):
                continue
            is_at_rest = partition in at_rest
            self._requested.discard(partition)
            if isinstance(finding.verdict, Uncertain):
                self._stop(partition, state, finding.verdict.reason)
                continue
            batch, evidence = WriteBatch(state), finding.evidence
            if isinstance(finding.verdict, Parted):
                self._begin_history(partition, batch, finding, finding.verdict)
                batches[partition] = batch
            state.go_on_from_source(evidence.topic, evidence.leader_epoch)
            lost = evidence.first - batch.ledger.next_offset
            if is_at_rest and lost > 0:
                log_lost(partition, lost)
                batch.ledger.skip_to(evidence.first, lost, evidence.leader_epoch, evidence.topic)
                batches[partition] = batch
            if is_at_rest or partition in batches:
                continued.append(partition)
        if batches:
            await self._table.flush(batches)
        await self._table.write_stepped_back(continued)
        return continued

    def _stop(self, partition: int, state: PartitionState, reason: str) -> None:
        if state.source_fault != reason:
            log.error(
                "partition stopped: its source is not certain",
                partition=partition,
                reason=reason,
                command=f"tobogganing history begin {partition} --at OFFSET",
            )
        state.stop_for_source(reason)
        self._announce(partition, state.ledger.next_offset, reason)

    def _begin_history(
        self, partition: int, batch: WriteBatch, finding: Finding, parted: Parted
    ) -> None:
        evidence = finding.evidence
        batch.ledger.cover_uncounted(batch.state.newest_offset())
        batch.ledger.begin_history(parted.start, evidence.leader_epoch, evidence.topic)
        log.error(
            "the source went back: a new history begins",
            partition=partition,
            reason=parted.reason,
            offset=parted.start,
            logical_offset=batch.ledger.offset + 1,
        )
        self._metrics.histories.inc()
