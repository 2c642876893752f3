"""Rule 6: the state is loaded without Faust.

Faust's recovery takes 84 s for a million rows (a plain reader: 2.6 s), keeps rows of partitions
that it no longer owns, and after a freeze does not detect that another worker wrote. So the store
reports to Faust that there is nothing to recover, and loads the partitions afterwards: while Faust
waits for `on_rebalance`, it sends no heartbeats.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.stores import memory
from faust.types import TP, EventT

from contract.position import Position
from processor.core.partition_state import ChangelogMark, PartitionState
from service.clock import uptime
from service.config.settings import KafkaSettings
from service.kafka.clients import is_temporary
from service.kafka.leaders import leaderless
from service.kafka.reader import TopicReader
from service.kafka.source_reader import SourceReader
from service.kafka.tombstones import may_have_missed
from service.kafka.topics import milliseconds_setting
from service.tasks import abort

log = structlog.get_logger(__name__)

TAKE_OVER_TIMEOUT = 6.0
"""Seconds. No heartbeat is sent during that time, and a session lasts 8 s."""
RETRY_PAUSE = 0.2
"""Seconds before a request is retried after a temporary error."""


class PartitionedStore(memory.Store[bytes, bytes]):
    """One `PartitionState` for each partition that this worker owns."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    settings: KafkaSettings
    changelog: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partitions: dict[int, PartitionState] = {}
        self._offsets: dict[TP, int] = {}
        self.lost_end = False
        """Whether the last load found a changelog that lost its end or was recreated."""
        self.records_read = 0
        """Records that `load` has read since the start; shows the progress of a load."""

    def owned(self, partition: int) -> PartitionState | None:
        """Return the state of a partition that this worker owns and has loaded, else None."""
        state = self.partitions.get(partition)
        return state if state is not None and state.loaded else None

    def loaded(self) -> list[int]:
        """Return the partitions that this worker owns and has loaded."""
        return [partition for partition, state in self.partitions.items() if state.loaded]

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Drop revoked partitions and find the changelog's ends. Short: no heartbeat is sent."""
        try:
            await self._take_over(assigned)
        except Exception as error:  # Faust would continue with a partial assignment
            abort(
                "partitions could not be taken over",
                reason=repr(error),
                without_leader=await self.without_leader(),
                exc_info=error,
            )

    async def without_leader(self) -> list[int]:
        """Return the owned changelog partitions without a leader, to explain a failure."""
        return await leaderless(self.settings, self.changelog, list(self.partitions))

    async def _take_over(self, assigned: set[TP]) -> None:
        mine = {tp.partition for tp in assigned if tp.topic == self.changelog}
        self.partitions = {
            partition: self.partitions.get(partition) or PartitionState(partition)
            for partition in mine
        }
        for state in self.partitions.values():
            # After a freeze Faust reports nothing as newly assigned although another worker wrote.
            state.loaded = False
        self._offsets.clear()
        if mine:
            async with asyncio.timeout(TAKE_OVER_TIMEOUT):
                await self._find_ends(mine)

    async def _find_ends(self, partitions: set[int]) -> None:
        while True:
            try:
                async with TopicReader(self.settings, self.changelog, partitions) as reader:
                    for partition, end in (await reader.end_offsets()).items():
                        self._offsets[TP(self.changelog, partition)] = end - 1
                return
            except KafkaError as error:
                if not is_temporary(error):
                    raise
                log.warning("could not take over partitions: retrying", reason=repr(error))
                await asyncio.sleep(RETRY_PAUSE)

    def persisted_offset(self, tp: TP) -> int | None:
        return self._offsets.get(tp)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._offsets[tp] = offset

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT],
        to_key: Callable[[Any], Any],
        to_value: Callable[[Any], Any],
    ) -> None:
        """Skip what Faust recovers between `on_rebalance` and `load`; `load` reads it again."""
        for event in batch:
            self._offsets[event.message.tp] = event.message.offset

    async def load(
        self, on_records: Callable[[], None] = lambda: None
    ) -> dict[int, dict[bytes, Position]]:
        """Load all owned partitions from their next offset to their end.

        Calls `on_records` whenever records were read. After an error another call continues.

        Returns for each partition the keys whose last record is not the newest.
        """
        await self._drop_outdated()
        return await self.load_partitions(self.partitions, on_records)

    async def _drop_outdated(self) -> None:
        """Reset states that may have missed tombstones which compaction has removed since."""
        known = {p: s for p, s in self.partitions.items() if s.changelog is not None}
        if not known:
            return
        kept = await milliseconds_setting(self.settings, self.changelog, "delete.retention.ms")
        for partition, state in known.items():
            behind = uptime() - state.current_at
            if may_have_missed(behind, kept / 1000):
                log.warning(
                    "state reloaded: tombstones may have been removed",
                    partition=partition,
                    seconds_behind=round(behind),
                )
                self.partitions[partition] = PartitionState(partition)

    async def load_partitions(
        self, partitions: Iterable[int], on_records: Callable[[], None] = lambda: None
    ) -> dict[int, dict[bytes, Position]]:
        """Load some of the owned partitions; see `load`."""
        loading = {partition: self.partitions[partition] for partition in partitions}
        if not loading:
            return {}
        started, current_at = asyncio.get_running_loop().time(), uptime()

        def apply(partition: int, records: Sequence[ConsumerRecord]) -> None:
            state = loading[partition]
            self.records_read += len(records)
            on_records()
            for record in records:
                state.apply(record.key, record.value, record.headers)

        async with SourceReader(self.settings, self.changelog, loading) as reader:
            marks, parted = await _compare(reader, loading)
            held = {partition: loading[partition] for partition in parted}
            loading |= {partition: PartitionState(partition) for partition in parted}
            starts = {partition: state.next_offset for partition, state in loading.items()}
            ends = await reader.read_to_end(apply, starts)
        log.info(
            "state loaded",
            partitions=sorted(loading),
            rows=sum(len(state.rows) for state in loading.values()),
            seconds=round(asyncio.get_running_loop().time() - started, 3),
        )
        regressed = {}
        for partition, state in loading.items():
            if partition in held:
                regressed[partition] = held[partition].adopt(state, ends[partition])
            else:
                regressed[partition] = state.finish_loading(ends[partition])
        loading |= held
        self.lost_end = bool(held)
        for partition, state in loading.items():
            state.changelog, state.current_at = marks[partition], current_at
            if partition in held:
                log.error(
                    "the changelog lost its end or was recreated",
                    partition=partition,
                    written_again=len(regressed[partition]),
                )
            if state.ledger_error is not None:
                log.error(
                    "partition stopped: its ledger cannot be decoded",
                    partition=partition,
                    reason=state.ledger_error,
                )
        return regressed


async def _compare(
    reader: SourceReader, states: dict[int, PartitionState]
) -> tuple[dict[int, ChangelogMark], list[int]]:
    """Compare states with the log that they were loaded from.

    Returns the current log, and the partitions whose state has more than the log.
    """
    details = await reader.describe()
    marks = {p: ChangelogMark(details.id, details.leaders[p].epoch) for p in states}
    known = {p: state.changelog for p, state in states.items() if state.changelog is not None}
    same = {p: mark.epoch for p, mark in known.items() if mark.topic == details.id}
    ends = await reader.epoch_ends(details, same)
    parted = [p for p in known if p not in ends or ends[p].offset < states[p].next_offset]
    return marks, parted
