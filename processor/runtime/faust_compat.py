"""Private parts of Faust that the processor uses. Written for faust-streaming 0.15.3, pinned.

`tests/unit/processor/test_compat.py` fails if a part no longer exists; the integration tests of the
processor fail if a part behaves differently.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.types import AppT

WRITTEN_FOR = "0.15.3"


def kafka_consumer(app: AppT[Any]) -> AIOKafkaConsumer | None:
    """Return the consumer of Faust's consumer thread, None before it has started.

    Reads `app._consumer`, because `app.consumer` would create one.
    """
    consumer = app._consumer
    return None if consumer is None else consumer._thread._consumer


def group_coordinator(app: AppT[Any]) -> Any:
    """Return aiokafka's group coordinator; call it after a join."""
    return app.consumer._thread._consumer._coordinator


def request_rejoin(app: AppT[Any], delay: float) -> None:
    """Join the group again in `delay` seconds."""
    loop = app.consumer._thread.thread_loop
    loop.call_soon_threadsafe(loop.call_later, delay, group_coordinator(app).request_rejoin)


def consumer_loop(app: AppT[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of Faust's consumer thread, None before it exists."""
    consumer = app._consumer
    return None if consumer is None else consumer._thread.thread_loop
