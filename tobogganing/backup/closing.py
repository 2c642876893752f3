"""Closes the topic of submissions, so that a backup is certain to have all of them.

A gateway that is quiet for a while looks like one that has stopped. Therefore this sets
`max.message.bytes` to 0, so the brokers reject every record. `tobogganing topics repair` restores
it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from contract.frame import encode_frame_parts
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.reader import TopicOffsets
from service.kafka.topic_settings import alter_topic_settings, read_topic_settings
from service.kafka.topics import topics_from
from tobogganing.errors import LocalError

SETTING = "max.message.bytes"
NO_RECORD_FITS = "0"
OBSERVED_FOR = 1.0
"""Seconds without a record before the topic is closed: a command that is given by mistake does not
close the topic of a busy installation."""
PROPAGATION = 0.5
"""Seconds in which brokers usually learn of a changed setting."""
TIMEOUT = 30.0
"""Seconds within which every leader must refuse records."""


@contextlib.asynccontextmanager
async def closed_submissions(
    settings: KafkaSettings, source: TopicOffsets
) -> AsyncIterator[dict[int, int]]:
    """Close the topic and return its final end offsets. It is opened again if the block fails.

    Raises:
        LocalError: a gateway writes, or this user may not change topic settings.
        KafkaError: Kafka does not respond.
    """
    before = await source.end_offsets()
    await asyncio.sleep(OBSERVED_FOR)
    if await source.end_offsets() != before:
        raise LocalError("a gateway still writes: stop all gateways, and try again")
    topic = topics_from(settings).submissions.name
    previous = await _set(settings, topic, NO_RECORD_FITS)
    try:
        await _wait_until_refused(settings, topic)
        yield await source.end_offsets()
    except BaseException:  # also after Ctrl-C, the topic must be open again
        await _set(settings, topic, previous)
        raise


async def _set(settings: KafkaSettings, topic: str, value: str) -> str:
    """Change the setting; return the previous value."""
    try:
        async with admin_client(settings) as admin:
            previous = (await read_topic_settings(admin, topic))[SETTING]
            await alter_topic_settings(admin, topic, {SETTING: value})
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
        raise LocalError(
            f"--drained closes the topic {topic}: allow DescribeConfigs and AlterConfigs on it "
            f"({error})"
        ) from None
    return previous


async def _wait_until_refused(settings: KafkaSettings, topic: str) -> None:
    """Wait until the leader of every partition refuses an empty frame, which counts as nothing."""
    frame = encode_frame_parts(0, [])
    await asyncio.sleep(PROPAGATION)  # so that an empty frame is rarely appended
    async with (
        asyncio.timeout(TIMEOUT),
        AIOKafkaProducer(**client_options(settings), acks="all") as producer,
    ):
        for partition in range(settings.kafka_partitions):
            while True:
                try:
                    await producer.send_and_wait(topic, frame, partition=partition)
                except MessageSizeTooLargeError:
                    break
                await asyncio.sleep(0.05)
