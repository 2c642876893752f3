"""Private parts of Faust that the processor uses. Written for faust-streaming 0.15.3, pinned.

`tests/unit/processor/test_compat.py` fails when a part no longer exists; the integration tests of
the processor fail when it behaves otherwise.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.types import AppT

WRITTEN_FOR = "0.15.3"


def kafka_consumer(app: AppT[Any]) -> AIOKafkaConsumer | None:
    """The consumer of Faust's consumer thread; None before it has started.

    `app.consumer` makes one where there is none, so it is not read here.
    """
    consumer = app._consumer
    return None if consumer is None else consumer._thread._consumer


def group_coordinator(app: AppT[Any]) -> Any:
    """aiokafka's coordinator of the group, which a join was just made by."""
    return app.consumer._thread._consumer._coordinator


def request_rejoin(app: AppT[Any], delay: float) -> None:
    """Join the group again, `delay` seconds from now."""
    loop = app.consumer._thread.thread_loop
    loop.call_soon_threadsafe(loop.call_later, delay, group_coordinator(app).request_rejoin)


def consumer_loop(app: AppT[Any]) -> asyncio.AbstractEventLoop | None:
    """The event loop of Faust's consumer thread; None before it has been made."""
    consumer = app._consumer
    return None if consumer is None else consumer._thread.thread_loop
