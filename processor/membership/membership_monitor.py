"""Membership monitor: what Faust's and aiokafka's background tasks hold, watched from outside.

An error of the group coordinator (an UnknownError for a JoinGroup, or any code that aiokafka does
not expect) stops aiokafka's coordination until the application takes it, and Faust never does. Here
it is taken: most such errors pass, so the request is made again. An error that cannot pass, or a
task that has ended for good, ends the process.
"""

import asyncio
from collections.abc import Callable

import structlog

from service.kafka.aiokafka_compat import ConsumerTasks
from service.tasks import abort

log = structlog.get_logger(__name__)

INTERVAL = 0.5
"""Seconds between two checks, and so the pause before a retry."""

FATAL = (
    "FencedInstanceIdError",
    "GroupAuthorizationFailedError",
    "InconsistentGroupProtocolError",
    "InvalidGroupIdError",
    "InvalidSessionTimeoutError",
    "TopicAuthorizationFailedError",
)
"""Errors that a retry with the same settings does not change. aiokafka wraps errors in others, so
they are recognised by their names in the text."""


class MembershipMonitor:
    """Retries errors of the group, and ends the process on those that a retry does not change."""

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
        """Check for ever."""
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
            abort("the group refuses this worker", reason=repr(error))
        log.warning("the group coordinator returned an error: retrying", reason=repr(error))
        self._on_retry()
        loop.call_soon_threadsafe(tasks.retry)
