"""Invalid records, which no gateway or worker of ours writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from contract.frame import FRAME_VERSION
from contract.row import ROW_VERSION, EntityRow, encode_row
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from
from tests.chaos.context import ChaosContext
from tests.chaos.installation import PARTITIONS

FRAMES = (
    b"",
    b"\x00\xff garbage",
    b"[1, 2, 3]",
    b'{"version":%d,"answer_by":0,"submissions":[{"kind":"client"' % FRAME_VERSION,
    b'{"version":%d,"answer_by":0,"submissions":[]}' % (FRAME_VERSION + 1),
    b"[" * 100_000,
)
ZOMBIE_ROWS = 20
START_TIMEOUT = 60.0
RETRY_PAUSE = 0.2


@contextlib.asynccontextmanager
async def _producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a producer that retries until Kafka has a record, once, even during another fault."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            try:
                await producer.start()
                break
            except KafkaConnectionError:
                await asyncio.sleep(RETRY_PAUSE)
    try:
        yield producer
    finally:
        await producer.stop()


async def corrupt_frames(context: ChaosContext) -> None:
    """Write undecodable frames during the load."""
    settings = context.installation.settings
    topic = topics_from(settings).submissions.name
    async with _producer(settings) as producer:
        for frame in FRAMES:
            partition = context.rng.randrange(PARTITIONS)
            await producer.send_and_wait(topic, frame, partition=partition)
            context.model.bad_frames[partition] += 1


async def zombie_rows(context: ChaosContext) -> None:
    """Write outdated rows, as a worker that has lost its partition does.

    Their entities have a row already: only then is there an outdated one.
    """
    settings = context.installation.settings
    topic = topics_from(settings).entity_state.name
    shown = context.model.shown()
    entities = [key for key, entity in context.model.entities.items() if not entity.leaving]
    entities = [key for key in entities if key in shown]
    async with _producer(settings) as producer:
        for key in context.rng.sample(entities, min(ZOMBIE_ROWS, len(entities))):
            row = EntityRow(
                version=ROW_VERSION,
                offset=0,
                index=0,
                incarnation=0,
                last_appended_ms=1,
                last_check_in=1.0,
                labels={"name": "zombie"},
                metrics={"bytes_sent": 0},
            )
            partition = context.model.partition(key)
            await producer.send_and_wait(
                topic, encode_row(row), key=key.encode(), partition=partition
            )
