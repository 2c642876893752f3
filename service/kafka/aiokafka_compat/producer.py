"""Private parts of aiokafka's producer: a stop that waits for no broker."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed


async def abandon(producer: AIOKafkaProducer) -> None:
    """Clean up as aiokafka's `stop` does after its flush, without waiting for brokers.

    `test_aiokafka_compat.py::test_a_producer_has_the_private_parts_that_are_used`,
    `tests/integration/test_link.py::test_an_abandoned_producer_logs_no_errors`.
    """
    sender: asyncio.Task[None] | None = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    accumulator = producer._message_accumulator
    # It removes a failed batch from this set although it is no longer in it.
    accumulator._pending_batches = _LenientSet(accumulator._pending_batches)
    waiting = [batch for queue in accumulator._batches.values() for batch in queue]
    accumulator.fail_all(ProducerClosed())
    for batch in (*waiting, *accumulator._pending_batches):
        # Retrieve the exception, because asyncio logs exceptions that are never retrieved.
        if batch._drain_waiter.done():
            batch._drain_waiter.exception()
    await producer.client.close()


class _LenientSet(set[Any]):
    """A set whose `remove` ignores missing elements."""

    def remove(self, element: Any) -> None:
        self.discard(element)
