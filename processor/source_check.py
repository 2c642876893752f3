"""Compares ledgers with their source, and begins a new history where it is certain which one.

At every load, when a record of another leader epoch comes, and every few seconds: a topic that is
recreated, or whose end is lost, must not go on under offsets that the ledger covers already.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from contract.row import LedgerRow
from processor.batch import PartitionBatch
from processor.metrics import ProcessorMetrics
from processor.repair import changes_to
from processor.source_history import (
    Parted,
    Same,
    SourceEvidence,
    Uncertain,
    Verdict,
    judge,
    known_epoch,
    known_topic,
)
from processor.state import PartitionState
from processor.table import StateTable
from service.kafka_compat import EpochEnd, TopicDetails
from service.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between two checks whether the topic, or the leader of a partition, is another one."""
TIMEOUT = 20.0
"""Seconds that Kafka gets to say what a comparison needs."""
CONFIRMATIONS, CONFIRM_INTERVAL = 3, 1.0
"""Comparisons in a row that must find another history, and the seconds between them."""
RELOAD_INTERVAL = 5.0
"""Seconds after which a stopped partition is loaded again: an operator may have decided."""

Resume = Callable[[int], Awaitable[None]]
"""Continues a partition after its ledger; the table's lock is held."""
Announce = Callable[[int, int, str], Awaitable[None]]
"""Tells gateways that a partition is stopped: partition, Kafka's next offset, reason."""


class SourceCheck:
    """Compares the ledgers of this worker's partitions with the submissions topic."""

    def __init__(
        self, table: StateTable, submissions: str, announce: Announce, metrics: ProcessorMetrics
    ) -> None:
        self._table = table
        self._announce = announce
        self._submissions = submissions
        self._metrics = metrics
        self._reload_at = 0.0

    async def check(self, partitions: Iterable[int]) -> None:
        """Compare the ledgers of partitions that are loaded, or stopped for their source.

        The table's lock must be held. Afterwards the ledger of a partition that is loaded says
        which record comes next.

        Raises:
            KafkaError, TimeoutError: Kafka did not say enough.
        """
        store = self._table.store
        states = {
            partition: state
            for partition in partitions
            if (state := store.partitions.get(partition)) is not None
            and (state.loaded or state.source_fault is not None)
        }
        if not states:
            return
        begun = {}
        for partition, (evidence, verdict) in (await self._compare(states)).items():
            state = states[partition]
            match verdict:
                case Uncertain(reason):
                    if state.source_fault != reason:
                        log.error(
                            "partition stopped: its source is not certain",
                            partition=partition,
                            reason=reason,
                            command=f"tobogganing history begin {partition} --at OFFSET",
                        )
                    state.stop_for_source(reason)
                    await self._announce(partition, state.ledger.next_offset, reason)
                    continue
                case Parted(start, reason):
                    batch = PartitionBatch(state)
                    batch.ledger.offset = state.newest_offset()
                    batch.ledger.begin_history(start, evidence.leader_epoch, evidence.topic)
                    begun[partition] = batch
                    log.error(
                        "the source went back: a new history begins",
                        partition=partition,
                        reason=reason,
                        offset=start,
                        logical_offset=batch.ledger.offset + 1,
                    )
                    self._metrics.histories.inc()
            state.go_on_from_source(evidence.topic, evidence.leader_epoch)
        if begun:
            await self._table.flush(begun)

    async def _compare(
        self, states: dict[int, PartitionState]
    ) -> dict[int, tuple[SourceEvidence, Verdict]]:
        """Compare ledgers with the source; what is not the same must be so several times in a row.

        A broker that was frozen answers for a moment as if it still led its partitions.
        """
        ledgers = {partition: state.ledger for partition, state in states.items()}
        found: dict[int, tuple[SourceEvidence, Verdict]] = {}
        async with (
            asyncio.timeout(TIMEOUT),
            SourceReader(self._table.settings, self._submissions, states) as reader,
        ):
            for attempt in range(CONFIRMATIONS):
                if attempt:
                    await asyncio.sleep(CONFIRM_INTERVAL)
                evidence = await collect(reader, ledgers)
                found |= {p: (each, judge(ledgers[p], each)) for p, each in evidence.items()}
                ledgers = {p: ledgers[p] for p in evidence if not isinstance(found[p][1], Same)}
                if not ledgers:
                    break
        return found

    async def run(self, resume: Resume) -> None:
        """Check again and again, for ever; `resume` continues partitions that were sought."""
        partitions = range(self._table.settings.kafka_partitions)
        while True:
            try:
                async with SourceReader(
                    self._table.settings, self._submissions, partitions
                ) as reader:
                    while True:
                        await self._watch(reader, resume)
                        await asyncio.sleep(INTERVAL)
            except (KafkaError, TimeoutError) as error:
                log.warning("the source could not be checked", reason=repr(error))
            await asyncio.sleep(INTERVAL)

    async def _watch(self, reader: SourceReader, resume: Resume) -> None:
        async with asyncio.timeout(TIMEOUT):
            details = await reader.describe()
        async with self._table.lock:
            await self.settle(self._suspects(details), resume)
            if time.monotonic() > self._reload_at:
                self._reload_at = time.monotonic() + RELOAD_INTERVAL
                await self._reload_stopped(resume)

    def _suspects(self, details: TopicDetails) -> list[int]:
        """Partitions whose topic, or leader epoch, is not the one of the last comparison."""
        return [
            partition
            for partition, state in self._loaded(self._table.store.loaded()).items()
            if details.id != state.source_topic
            or details.leaders[partition].epoch > state.source_epoch
        ]

    async def settle(self, partitions: Iterable[int], resume: Resume) -> None:
        """Check partitions, and continue each where a new history begins. The lock is held.

        Raises:
            KafkaError, TimeoutError: Kafka did not say enough.
        """
        before = {p: state.ledger for p, state in self._loaded(partitions).items()}
        await self.check(before)
        for partition, ledger in before.items():
            state = self._table.store.owned(partition)
            if state is not None and state.ledger.next_offset != ledger.next_offset:
                await resume(partition)

    async def _reload_stopped(self, resume: Resume) -> None:
        store = self._table.store
        stopped = [p for p, state in store.partitions.items() if state.source_fault is not None]
        if not stopped:
            return
        await store.load_partitions(stopped)
        await self.check(stopped)
        for partition in stopped:
            state = store.owned(partition)
            if state is not None:
                log.info("partition continues", partition=partition)
                state.next_offset = 0  # what has to be written again is found in all of it
                positions = (await store.load_partitions([partition]))[partition]
                await self._table.flush(
                    {partition: PartitionBatch(state, changes_to(state, positions))}
                )
                await resume(partition)

    def _loaded(self, partitions: Iterable[int]) -> dict[int, PartitionState]:
        found = {partition: self._table.store.owned(partition) for partition in partitions}
        return {partition: state for partition, state in found.items() if state is not None}


async def collect(reader: SourceReader, ledgers: dict[int, LedgerRow]) -> dict[int, SourceEvidence]:
    """Ask Kafka for what comparing these ledgers needs.

    Raises:
        KafkaError: Kafka did not say enough.
    """
    details = await reader.describe()
    firsts, ends = await reader.beginnings(), await reader.ends()
    asked = {
        partition: known_epoch(ledger)
        for partition, ledger in ledgers.items()
        if known_topic(ledger) == details.id and known_epoch(ledger) >= 0
    }
    epochs = await reader.epoch_ends(details, asked)
    return {
        partition: await _evidence(
            reader,
            partition,
            ledger,
            details,
            firsts[partition],
            ends[partition],
            epochs.get(partition, EpochEnd(-1, -1)),
        )
        for partition, ledger in ledgers.items()
    }


async def _evidence(
    reader: SourceReader,
    partition: int,
    ledger: LedgerRow,
    details: TopicDetails,
    first: int,
    end: int,
    epoch: EpochEnd,
) -> SourceEvidence:
    async def appended(offset: int, *, exactly: bool = True) -> int | None:
        if not first <= offset < end:
            return None
        try:
            record = await reader.record_from(partition, offset, end)
        except OffsetOutOfRangeError:
            return None
        if record is None or (exactly and record.offset != offset):
            return None
        return int(record.timestamp)

    mark = ledger.mark
    is_other_topic = known_topic(ledger) not in (None, details.id)
    return SourceEvidence(
        topic=details.id,
        first=first,
        end=end,
        leader_epoch=details.leaders[partition].epoch,
        epoch=epoch.epoch,
        epoch_end=epoch.offset,
        marked=await appended(mark.offset) if mark and epoch.offset > mark.offset else None,
        newest_kept=(
            await appended(epoch.offset - 1) if mark and 0 < epoch.offset <= mark.offset else None
        ),
        oldest=await appended(first, exactly=False) if is_other_topic else None,
    )
