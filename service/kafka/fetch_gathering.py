"""Fetch gathering: under load, brokers delay fetch responses so that each has many records.

A broker responds to a fetch as soon as one partition has a record, so a consumer under load wakes
for every append.
"""

import math
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

from service.kafka.aiokafka_compat.consumer import set_fetch_limits

BUSY_WITHIN = 0.25
"""Seconds between polls with records below which the consumer counts as under load."""
GATHER_MS = 160
"""Maximum delay of a fetch response under load, in milliseconds."""
GATHER_BYTES = 256 * 1024
"""Bytes with which a broker responds at once, so a consumer with a backlog does not wait."""


class FetchGathering:
    """Sets how long brokers delay the fetch responses of a consumer.

    `idle_wait_ms` is the maximum delay without load; a record ends it. With `gather_bytes`, a
    broker responds at once under load.
    """

    def __init__(
        self,
        idle_wait_ms: int,
        gather_bytes: int = GATHER_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_wait_ms = idle_wait_ms
        self._gather_bytes = gather_bytes
        self._now = now
        self._last_found = -math.inf
        self._is_busy = False

    def observe(self, consumer: AIOKafkaConsumer, has_records: bool) -> None:
        """Evaluate what a poll returned. It must run on the consumer's event loop."""
        now = self._now()
        is_busy = now - self._last_found <= BUSY_WITHIN
        if has_records:
            self._last_found = now
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            if is_busy:
                set_fetch_limits(consumer, self._gather_bytes, GATHER_MS)
            else:
                set_fetch_limits(consumer, 1, self._idle_wait_ms)
