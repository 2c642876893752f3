"""The registry as every service reads it: a tailer that keeps the current records."""

from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord

from contract.registry import REVISION_HEADER, RegistryError, decode_revision
from contract.registry_state import ApplyResult, RegistryState
from service.config.settings import KafkaSettings
from service.kafka.tailer import TopicTailer
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)


class RegistryReader:
    """Tails the registry topic; `state` contains the records read so far."""

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
        """Forget the records before the topic is read again."""
        self.state.clear()

    def on_applied(self, record: ConsumerRecord, result: ApplyResult) -> None:
        """Hook that is called after each record; a writer uses it to detect its own records."""


def _revision(record: ConsumerRecord) -> int | None:
    """Return the revision that a tombstone deletes."""
    if record.value is not None:
        return None
    header = dict(record.headers).get(REVISION_HEADER)
    return None if header is None else decode_revision(header)
