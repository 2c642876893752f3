"""Source lag: records of the submissions topic that the ledgers do not cover yet.

The end offsets are polled from Kafka, so the lag is also correct while no processor runs, and it
includes records that are read but not flushed.
"""

import asyncio
import time
from collections.abc import Mapping

import structlog
from aiokafka.errors import KafkaError

from contract.ledger import LedgerRow
from service.config.settings import KafkaSettings
from service.kafka.clients import when_reachable
from service.kafka.reader import TopicOffsets

log = structlog.get_logger(__name__)

POLL_INTERVAL = 1.0
"""Seconds between polls."""
POLL_TIMEOUT = 4.0


class SourceLagMonitor:
    """Polls the end offsets of the submissions topic."""

    def __init__(
        self, settings: KafkaSettings, topic: str, ledgers: Mapping[int, LedgerRow]
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._ledgers = ledgers
        self._missing: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._first_ends: dict[int, int] | None = None
        self._last_response: float | None = None

    def seconds_since_response(self) -> float:
        """Return the seconds since Kafka's last response; infinite before the first."""
        return (
            float("inf") if self._last_response is None else time.monotonic() - self._last_response
        )

    def lag(self) -> dict[int, int]:
        """Return the records after each partition's ledger; empty before Kafka's first response."""
        return {
            partition: max(0, end - self._ledgers[partition].next_offset)
            for partition, end in self._ends.items()
        }

    def lag_seconds(self, now: float) -> dict[int, float]:
        """Return the time that each partition is behind: the age of the newest record that its
        ledger counts while others wait, else 0.

        The oldest record that waits is at most that old. `now` is in seconds since the epoch.
        Partitions of which nothing was counted yet are absent.
        """
        newest = {p: self._ledgers[p].newest for p in self._ends}
        return {
            partition: max(0.0, now - newest[partition] / 1000) if records else 0.0
            for partition, records in self.lag().items()
            if newest[partition] or not records
        }

    def missing(self) -> dict[int, int]:
        """Return the records that each ledger covers beyond the end of its partition,
        which lost them."""
        return self._missing

    def ends_at_start(self) -> dict[int, int] | None:
        """Return the end offsets of the first response, or the current ones if they are lower; None
        before the first response.
        """
        if self._first_ends is None:
            return None
        return {p: min(end, self._ends.get(p, end)) for p, end in self._first_ends.items()}

    def update(self, ends: Mapping[int, int], covered: Mapping[int, int] | None = None) -> None:
        """Set the end offsets; `covered` are the ledgers' next offsets from before the request."""
        self._ends = dict(ends)
        self._first_ends = self._first_ends or self._ends
        covered = covered or {}
        self._missing = {p: max(0, covered.get(p, 0) - end) for p, end in ends.items()}
        self._last_response = time.monotonic()

    async def run(self) -> None:
        """Poll until cancelled."""
        async with when_reachable(
            lambda: TopicOffsets(self._settings, self.topic, self._ledgers)
        ) as topic:
            while True:
                try:
                    covered = {p: ledger.next_offset for p, ledger in self._ledgers.items()}
                    async with asyncio.timeout(POLL_TIMEOUT):
                        self.update(await topic.end_offsets(), covered)
                except (KafkaError, TimeoutError) as error:
                    log.warning("Kafka does not respond", topic=self.topic, reason=repr(error))
                await asyncio.sleep(POLL_INTERVAL)
