"""Partitions that their processor has stopped; submissions to them are refused.

A processor that cannot determine which records are new writes this into the metadata of its group's
committed offset (contract.history). A 200 for a submission that may be skipped would break the
guarantee.
"""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from contract.history import STOPPED_METADATA
from contract.topics import processor_group
from gateway.produce.batcher import SubmissionBatcher
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between two requests."""


class StoppedPartitions:
    """Updates the stopped partitions of the batcher while `run` runs."""

    def __init__(self, settings: KafkaSettings, batcher: SubmissionBatcher) -> None:
        self._settings = settings
        self._batcher = batcher
        self._group = processor_group(settings.kafka_topic_prefix)
        self._topic = topics_from(settings).submissions.name
        self._was_read = False
        self.is_refused = False
        """Whether Kafka refuses to describe the group, so that stopped partitions are unknown."""

    @property
    def was_never_allowed(self) -> bool:
        """Whether Kafka has refused since start-up."""
        return self.is_refused and not self._was_read

    async def run(self) -> None:
        """Poll forever; while Kafka does not respond, the last known state stays."""
        while True:
            try:
                async with admin_client(self._settings) as admin:
                    while True:
                        offsets = await admin.list_consumer_group_offsets(self._group)
                        self._was_read, self.is_refused = True, False
                        self._update(
                            {
                                tp.partition: committed.metadata or ""
                                for tp, committed in offsets.items()
                                if tp.topic == self._topic
                            }
                        )
                        await asyncio.sleep(INTERVAL)
            except GroupAuthorizationFailedError:
                if not self.is_refused:
                    log.error(
                        "Kafka refuses to describe the processors' group: allow this gateway "
                        "Describe on the group, or it confirms submissions that a stopped "
                        "partition may skip",
                        group=self._group,
                    )
                self.is_refused = True
            except (KafkaError, TimeoutError, OSError) as error:
                log.info("cannot read the processors' group", reason=repr(error))
            await asyncio.sleep(INTERVAL)

    def _update(self, metadata: Mapping[int, str]) -> None:
        """Update the stopped partitions from the metadata of committed offsets.

        A partition without metadata keeps its state, because aiokafka hides errors that concern the
        whole group.
        """
        stopped = {p for p, text in metadata.items() if text.startswith(STOPPED_METADATA)}
        stopped |= self._batcher.stopped - metadata.keys()
        for partition in sorted(stopped - self._batcher.stopped):
            log.error("partition stopped by its processor", partition=partition)
        for partition in sorted(self._batcher.stopped - stopped):
            log.info("partition continues", partition=partition)
        self._batcher.stopped = stopped
