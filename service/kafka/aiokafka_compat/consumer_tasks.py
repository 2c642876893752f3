"""Background tasks of an aiokafka consumer that have ended, and errors that block them."""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer


class EndedTask(NamedTuple):
    """A background task that has ended although its consumer is open."""

    name: str
    error: BaseException | None


class ConsumerTasks:
    """Pending errors of the background tasks of a consumer in a group.

    aiokafka passes an error of its coordination to the caller of `getmany`, and waits until the
    caller has retrieved it. Faust uses the fetcher directly, so nothing retrieves the error: a
    rebalance never ends, and no more heartbeats are sent.

    Reading is safe from any thread; `retry` must run on the consumer's event loop.
    `test_aiokafka_compat.py::test_a_consumer_has_the_private_parts_that_are_used`,
    `test_group_errors.py`.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._coordinator = consumer._coordinator

    @property
    def is_open(self) -> bool:
        """Whether `start` has returned and the consumer is not stopped."""
        return self._consumer._fetcher is not None and not self._consumer._closed

    def ended(self) -> list[EndedTask]:
        """Return the tasks that have ended although the consumer is open."""
        return [*ended_tasks(self._consumer)]

    def pending_error(self) -> BaseException | None:
        """Return the error that blocks the coordination, or with which a restartable task has
        ended."""
        pending: BaseException | None = self._coordinator._pending_exception
        if pending is not None:
            return pending
        for task in (self._coordinator._heartbeat_task, self._coordinator._commit_refresh_task):
            if (error := _failure(task)) is not None:
                return error
        return None

    def retry(self) -> None:
        """Clear the pending error so that the coordination continues, and restart ended tasks.

        The coordination restarts the heartbeat and commit refresh tasks only after a rejoin, and
        reports the old error repeatedly until then.
        """
        coordinator = self._coordinator
        if _failure(coordinator._heartbeat_task) is not None:
            coordinator._heartbeat_task = None
            coordinator._start_heartbeat_task()
        if _failure(coordinator._commit_refresh_task) is not None:
            coordinator._commit_refresh_task = None
            subscription = self._consumer._subscription.subscription
            assignment = subscription.assignment if subscription is not None else None
            if assignment is not None and assignment.active:
                coordinator.start_commit_offsets_refresh_task(assignment)
        consumed, coordinator._error_consumed_fut = coordinator._error_consumed_fut, None
        coordinator._pending_exception = None
        if consumed is not None and not consumed.done():
            consumed.set_result(None)


def ended_tasks(consumer: AIOKafkaConsumer) -> Iterator[EndedTask]:
    """Yield the ended tasks of an open consumer. Nothing restarts or reports them.

    `test_aiokafka_compat.py`, `test_reader.py`.
    """
    if consumer._closed or consumer._fetcher is None:  # `start` may wait for a broker
        return
    tasks: dict[str, asyncio.Task[Any] | None] = {
        "coordination": getattr(consumer._coordinator, "_coordination_task", None),
        "fetcher": consumer._fetcher._fetch_task,
        "metadata": consumer._client._sync_task,
    }
    for name, task in tasks.items():
        if task is not None and task.done():
            yield EndedTask(name, None if task.cancelled() else task.exception())


def _failure(task: "asyncio.Task[Any] | None") -> BaseException | None:
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception()
