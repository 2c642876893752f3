"""The registry as every service may read it: a follower that keeps the current records."""

from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord

from contract.registry import (
    REVISION_HEADER,
    Applied,
    RegistryError,
    RegistryState,
    decode_revision,
)
from service.kafka import topics_of
from service.reader import TopicFollower
from service.settings import KafkaSettings

log = structlog.get_logger(__name__)


class RegistryReader:
    """Follows the registry topic; `state` is what it says so far."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.state = RegistryState()
        self.follower = TopicFollower(
            settings, topics_of(settings).registry.name, [0], self.apply, clear=self.clear
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

    def on_applied(self, record: ConsumerRecord, applied: Applied) -> None:
        """Called after each record; a writer learns here what became of its own."""


def _revision(record: ConsumerRecord) -> int | None:
    """Revision that a tombstone removes."""
    if record.value is not None:
        return None
    header = dict(record.headers).get(REVISION_HEADER)
    return None if header is None else decode_revision(header)
