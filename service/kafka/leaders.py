"""Partitions without a leader."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 0.5
"""Seconds between two requests for missing leaders."""
DIAGNOSIS_TIMEOUT = 3.0
"""Seconds for listing the partitions without a leader after an error."""


async def wait_for_leaders(
    settings: KafkaSettings,
    topic: str,
    partitions: Iterable[int],
    on_missing: Callable[[list[int]], None],
) -> None:
    """Wait until each partition has a leader. Calls `on_missing` with the partitions without a
    leader whenever they change, the last time with an empty list."""
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
            log.info("cannot read the leaders of partitions", topic=topic, reason=repr(error))
            await asyncio.sleep(INTERVAL)


async def leaderless(settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> list[int]:
    """Return the partitions without a leader, to explain an error; empty if Kafka does not
    respond."""
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
