"""Consumes the entity-state topic: applies records to the store, then notifies the read barrier."""

import time
from collections.abc import Callable, Sequence

import structlog
from aiokafka import ConsumerRecord

from contract.row import POSITION_HEADER, RowError
from exporter.metrics import ExporterMetrics
from exporter.scrape.read_barrier import ReadBarrier
from exporter.state.store import StateStore

log = structlog.get_logger(__name__)


class RowConsumer:
    """Applies the records of the entity-state topic."""

    def __init__(
        self,
        store: StateStore,
        barrier: ReadBarrier,
        metrics: ExporterMetrics,
        is_caught_up: Callable[[], bool],
    ) -> None:
        self._store = store
        self._barrier = barrier
        self._metrics = metrics
        self._is_caught_up = is_caught_up

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Apply the next records of a partition; records that cannot be decoded are skipped."""
        applied = unreadable = 0
        for record in records:
            position = last_header(record, POSITION_HEADER) if record.headers else None
            try:
                applied += self._store.apply(partition, record.key, record.value, position)
            except RowError as error:
                unreadable += 1
                if unreadable == 1:  # log one record of many
                    log.error(
                        "row skipped", partition=partition, offset=record.offset, reason=str(error)
                    )
        if unreadable > 1:
            log.error("rows skipped", partition=partition, count=unreadable)
        self._metrics.rows_applied.inc(applied)
        self._metrics.unreadable_rows.inc(unreadable)
        self._metrics.rows_superseded.inc(len(records) - applied - unreadable)
        self._barrier.advance({partition: self._store.ledgers[partition]})
        if records and self._is_caught_up():
            delay = time.time() - records[0].timestamp / 1000
            self._metrics.row_delay.observe(max(0.0, delay))


def last_header(record: ConsumerRecord, name: str) -> bytes | None:
    """Return the value of a record's last header with this name, None if there is none."""
    for key, value in reversed(record.headers):
        if key == name:
            return bytes(value)
    return None
