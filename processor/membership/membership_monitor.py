"""Membership monitor: checks the background tasks of Faust's and aiokafka's consumer.

An error of the group coordinator (UnknownError for a JoinGroup, or any code that aiokafka does not
handle) stops aiokafka's coordination until the application retrieves the error, and Faust never
does. This monitor retrieves it. Most such errors are temporary, so the request is retried. A
permanent error, or a task that has ended, ends the process.
"""

import asyncio
from collections.abc import Callable

import structlog

from service.kafka.aiokafka_compat.consumer_tasks import ConsumerTasks
from service.tasks import abort

log = structlog.get_logger(__name__)

INTERVAL = 0.5
"""Seconds between checks, and so the pause before a retry."""

FATAL = (
    "FencedInstanceIdError",
    "GroupAuthorizationFailedError",
    "InconsistentGroupProtocolError",
    "InvalidGroupIdError",
    "InvalidSessionTimeoutError",
    "TopicAuthorizationFailedError",
)
"""Errors that a retry with the same settings does not fix. aiokafka wraps errors in others, so they
are matched by name in the text."""


class MembershipMonitor:
    """Retries errors of the group coordinator; ends the process on permanent ones."""

    def __init__(
        self,
        tasks: Callable[[], ConsumerTasks | None],
        loop: Callable[[], asyncio.AbstractEventLoop | None],
        on_retry: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._loop = loop
        self._on_retry = on_retry

    async def run(self) -> None:
        """Check forever."""
        while True:
            self.check()
            await asyncio.sleep(INTERVAL)

    def check(self) -> None:
        """Retry a pending error, or end the process."""
        tasks, loop = self._tasks(), self._loop()
        if tasks is None or loop is None or not tasks.is_open:
            return
        for task in tasks.ended():
            abort(
                "a background task of the Kafka consumer has ended",
                task=task.name,
                reason=repr(task.error),
                exc_info=task.error,
            )
        error = tasks.pending_error()
        if error is None:
            return
        if any(name in repr(error) for name in FATAL):
            abort("the group rejects this worker", reason=repr(error))
        log.warning("the group coordinator returned an error: retrying", reason=repr(error))
        self._on_retry()
        loop.call_soon_threadsafe(tasks.retry)
