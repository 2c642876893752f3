"""Partitions of a topic that no broker leads."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 0.5
"""Seconds between two requests for leaders that are missing."""
DIAGNOSIS_TIMEOUT = 3.0
"""Seconds to name the partitions without a leader after something has failed."""


async def wait_for_leaders(
    settings: KafkaSettings,
    topic: str,
    partitions: Iterable[int],
    on_missing: Callable[[list[int]], None],
) -> None:
    """Return once each of the partitions has a leader. Calls `on_missing` when those without
    change; the last time with none.
    """
    known: list[int] | None = None
    partitions = list(partitions)
    while known != []:
        try:
            async with SourceReader(settings, topic, partitions) as reader:
                while known != []:
                    missing = await _leaderless(reader, partitions)
                    if missing != known and (missing or known):
                        log.warning("waiting for leaders", topic=topic, partitions=missing)
                    if missing != known:
                        on_missing(missing)
                    known = missing
                    if known:
                        await asyncio.sleep(INTERVAL)
        except (KafkaError, TimeoutError) as error:
            log.info("waiting for kafka to name the leaders", topic=topic, reason=repr(error))
            await asyncio.sleep(INTERVAL)


async def leaderless(settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> list[int]:
    """Partitions that have no leader now, to explain a failure; none if Kafka does not say."""
    with contextlib.suppress(KafkaError, TimeoutError):
        async with (
            asyncio.timeout(DIAGNOSIS_TIMEOUT),
            SourceReader(settings, topic, partitions) as reader,
        ):
            return await _leaderless(reader, partitions)
    return []


async def _leaderless(reader: SourceReader, partitions: Iterable[int]) -> list[int]:
    details = await reader.describe()
    return [partition for partition in partitions if not details.leader(partition).exists]
