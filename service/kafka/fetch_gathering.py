"""Fetch gathering: brokers hold fetches back under load, so that each returns many records.

A broker answers a fetch as soon as one partition has a record, so that under load a consumer wakes
for every append. While records come one soon after the other, fetches wait for more of them.
"""

import math
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

from service.kafka.aiokafka_compat.consumer import set_fetch_limits

BUSY_WITHIN = 0.25
"""Records that come at most so many seconds after others are load."""
GATHER_MS = 80
"""Milliseconds that a broker gathers records for a fetch under load."""
GATHER_BYTES = 256 * 1024
"""Bytes that are enough to answer a fetch at once: where there is a backlog, nothing waits."""


class FetchGathering:
    """Sets how long brokers hold the fetches of a consumer back.

    `idle_wait_ms` is how long they do without load, until there is a record.
    """

    def __init__(self, idle_wait_ms: int, now: Callable[[], float] = time.monotonic) -> None:
        self._idle_wait_ms = idle_wait_ms
        self._now = now
        self._last_found = -math.inf
        self._is_busy = False

    def observe(self, consumer: AIOKafkaConsumer, has_records: bool) -> None:
        """Take note of what a poll returned. It must run on the consumer's event loop."""
        now = self._now()
        is_busy = now - self._last_found <= BUSY_WITHIN
        if has_records:
            self._last_found = now
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            if is_busy:
                set_fetch_limits(consumer, GATHER_BYTES, GATHER_MS)
            else:
                set_fetch_limits(consumer, 1, self._idle_wait_ms)
