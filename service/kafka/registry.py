"""The registry as every service may read it: a follower that keeps the current records."""

from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord

from contract.registry import (
    REVISION_HEADER,
    ApplyResult,
    RegistryError,
    RegistryState,
    decode_revision,
)
from service.config.settings import KafkaSettings
from service.kafka.tailer import TopicTailer
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)


class RegistryReader:
    """Follows the registry topic; `state` is what it says so far."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.state = RegistryState()
        self.tailer = TopicTailer(
            settings, topics_from(settings).registry.name, [0], self.apply, clear=self.clear
        )

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                applied = self.state.apply(
                    record.offset, record.key or b"", record.value, _revision(record)
                )
            except RegistryError as error:
                log.error("registry record skipped", offset=record.offset, reason=str(error))
            else:
                self.on_applied(record, applied)

    def clear(self) -> None:
        """Forget everything that was read: it is read again."""
        self.state.clear()

    def on_applied(self, record: ConsumerRecord, result: ApplyResult) -> None:
        """Called after each record; a writer learns here what became of its own."""


def _revision(record: ConsumerRecord) -> int | None:
    """Revision that a tombstone removes."""
    if record.value is not None:
        return None
    header = dict(record.headers).get(REVISION_HEADER)
    return None if header is None else decode_revision(header)
