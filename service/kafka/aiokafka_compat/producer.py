"""aiokafka producer internals: acknowledgement of `send_batch`, and closing without waiting for
brokers."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.structs import RecordMetadata


async def acknowledged(future: "asyncio.Future[RecordMetadata]") -> RecordMetadata:
    """Await the future that `send_batch` returned.

    aiokafka leaves it to the caller to retrieve the error of such a batch. If the caller is
    cancelled, nothing would retrieve it, and asyncio would log it.
    `tests/integration/test_gateway.py::test_a_503_during_a_stop_is_never_applied`.
    """
    future.add_done_callback(_retrieve)
    return await asyncio.shield(future)


def _retrieve(future: "asyncio.Future[RecordMetadata]") -> None:
    if not future.cancelled():
        future.exception()


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
