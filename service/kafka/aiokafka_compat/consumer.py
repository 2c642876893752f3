"""Private parts of aiokafka's consumer: its client, its fetch limits, and its stop."""

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient


def client_of(consumer: AIOKafkaConsumer) -> AIOKafkaClient:
    """Return the client of a consumer, for requests that the consumer does not offer.

    `test_aiokafka_compat.py::test_a_consumer_has_the_private_parts_that_are_used`.
    """
    return consumer._client


def set_fetch_max_wait(consumer: AIOKafkaConsumer, milliseconds: int) -> None:
    """Set how long a broker may delay a fetch response; Faust has no setting for it.

    `test_aiokafka_compat.py::test_a_consumer_has_the_private_parts_that_are_used`.
    """
    consumer._fetch_max_wait_ms = milliseconds


def set_fetch_limits(consumer: AIOKafkaConsumer, min_bytes: int, max_wait_ms: int) -> None:
    """Set for how many bytes, and how long, brokers hold further fetches of a consumer back.

    `test_aiokafka_compat.py::test_a_consumer_has_the_private_parts_that_are_used`,
    `test_fetch_gathering.py`.
    """
    if consumer._fetcher is not None:
        consumer._fetcher._fetch_min_bytes = min_bytes
        consumer._fetcher._fetch_max_wait_ms = max_wait_ms


async def stop_and_close(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections, whatever it is waiting for.

    `stop` cancels and awaits a fetch in progress, so it raises CancelledError in its caller and
    leaves the connections open. `test_reader.py`, a stop while a fetch is under way.
    """
    stopping = asyncio.create_task(consumer.stop())
    try:
        await asyncio.wait([stopping])
    finally:
        stopping.cancel()
    await consumer._client.close()  # skipped on cancellation: the caller's timeout has expired
    if not stopping.cancelled():
        stopping.result()
