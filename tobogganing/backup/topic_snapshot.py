"""The current state of an installation, read from Kafka: its registry and its rows."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from aiokafka import ConsumerRecord

from contract.ledger import LedgerRow
from contract.registry import (
    REVISION_HEADER,
    RegistryError,
    RegistryRecord,
    RegistryVersionError,
    decode_record,
    decode_revision,
)
from contract.registry_state import RegistryState
from processor.core.partition_state import PartitionState
from processor.core.source_history import Comparison, SourceLogState, compare_ledger
from processor.source.log_state import collect
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.source_reader import SourceReader
from service.kafka.topics import topics_from
from service.plural import counted
from tobogganing.errors import LocalError

POLL = 0.2
"""Seconds between two reads of a partition that a processor has not finished."""


class RegistrySnapshot:
    """The registry topic up to its offset `end`."""

    def __init__(self) -> None:
        self.state = RegistryState()
        self.end = 0
        self.unreadable = 0
        """Records that cannot be decoded; gateways skip them, too."""

    @classmethod
    async def load(cls, settings: KafkaSettings) -> Self:
        """Read the registry.

        Raises:
            LocalError: a record has an unknown version.
            KafkaError: Kafka does not respond.
        """
        known = cls()
        async with TopicReader(settings, topics_from(settings).registry.name, [0]) as reader:
            known.end = (await reader.read_to_end(known._apply, {}))[0]
        return known

    def current(self, key: bytes) -> RegistryRecord | None:
        """The current record of a key, decoded at each call."""
        value = self.state.encoded(key)
        return None if value is None else decode_record(value)

    def _apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                revision = None
                if record.value is None:
                    header = dict(record.headers).get(REVISION_HEADER)
                    revision = None if header is None else decode_revision(header)
                self.state.apply(record.offset, record.key or b"", record.value, revision)
            except RegistryVersionError as error:
                raise LocalError(f"{error}: use the command of the version that wrote it") from None
            except RegistryError:
                self.unreadable += 1


class RowSnapshot:
    """Partitions of `entity-state`; an async context manager that reads them repeatedly."""

    def __init__(self, settings: KafkaSettings, partitions: Iterable[int]) -> None:
        self.states = {partition: PartitionState(partition) for partition in partitions}
        topic = topics_from(settings).entity_state.name
        self._reader = TopicReader(settings, topic, self.states)
        self._next: dict[int, int] = {}

    @classmethod
    async def load(cls, settings: KafkaSettings, partitions: Iterable[int]) -> Self:
        """Read the partitions once: see `read`."""
        async with cls(settings, partitions) as known:
            await known.read()
        return known

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._reader.__aexit__(*exception)

    async def read(self) -> None:
        """Continue reading to the current ends of the partitions.

        Raises:
            LocalError: a ledger cannot be decoded.
            KafkaError: Kafka does not respond.
        """
        self._next = await self._reader.read_to_end(self._apply, self._next)
        for partition, state in self.states.items():
            if state.ledger_error is not None:
                raise LocalError(
                    f"the ledger of partition {partition} cannot be read: {state.ledger_error}"
                )

    def _apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self.states[partition].apply(record.key or b"", record.value, record.headers)


async def read_covered_rows(
    settings: KafkaSettings, partition: int, end: int, deadline: float
) -> PartitionState:
    """Read a partition of `entity-state` when its ledger covers the source up to `end`.

    Raises:
        LocalError: the ledger does not cover it by `deadline`, on the monotonic clock.
        KafkaError: Kafka does not respond.
    """
    async with RowSnapshot(settings, [partition]) as known:
        state = known.states[partition]
        await known.read()
        while (missing := end - state.ledger.next_offset) > 0:
            if time.monotonic() > deadline:
                raise LocalError(
                    f"partition {partition}: a processor has not read "
                    f"{counted(missing, 'record')}: let the processors run until "
                    "`tobogganing ledger` shows no lag"
                )
            await asyncio.sleep(POLL)
            await known.read()
    return state


async def read_ledgers(settings: KafkaSettings, partitions: Iterable[int]) -> dict[int, LedgerRow]:
    """Read the ledgers of partitions, without keeping other rows.

    Raises:
        LocalError: a ledger cannot be decoded.
        KafkaError: Kafka does not respond.
    """
    known = await _LedgerSnapshot.load(settings, partitions)
    return {partition: state.ledger for partition, state in known.states.items()}


class _LedgerSnapshot(RowSnapshot):
    def _apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        key = self.states[partition].ledger_key
        super()._apply(partition, [record for record in records if record.key == key])


class SourceComparison(NamedTuple):
    """What Kafka reports about a source partition, and the result of comparing its ledger with
    it."""

    log_state: SourceLogState
    comparison: Comparison


async def compare_with_source(
    settings: KafkaSettings, ledgers: dict[int, LedgerRow]
) -> dict[int, SourceComparison]:
    """Compare ledgers with the submissions topic once, as a processor does; changes nothing.

    Raises:
        KafkaError: Kafka does not respond.
    """
    topic = topics_from(settings).submissions.name
    async with SourceReader(settings, topic, ledgers) as reader:
        found = await collect(reader, ledgers)
    return {
        p: SourceComparison(found[p], compare_ledger(ledger, found[p]))
        for p, ledger in ledgers.items()
    }
