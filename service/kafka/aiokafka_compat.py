"""Private parts of aiokafka's consumer that this project uses. Written for aiokafka 0.14.0, pinned.

Each entry names the test that fails if the part no longer exists or behaves differently.
`tests/unit/processor/test_compat.py::test_versions_are_the_pinned_ones` fails first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.protocol.commit import OffsetCommitRequest

WRITTEN_FOR = "0.14.0"


class FencedInstanceIdError(errors.BrokerResponseError):
    """Another member has joined the group under the same static name (KIP-345)."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined under the same group.instance.id."


def register_error_codes() -> None:
    """Register the error code that aiokafka would report as UnknownError.

    `test_compat.py::test_a_fenced_instance_id_has_its_own_error`.
    """
    errors.kafka_errors[FencedInstanceIdError.errno] = FencedInstanceIdError


def set_fetch_max_wait(consumer: AIOKafkaConsumer, milliseconds: int) -> None:
    """Set how long a broker may delay a fetch response; Faust has no setting for it.

    `test_compat.py::test_a_consumer_has_the_private_parts_that_are_used`.
    """
    consumer._fetch_max_wait_ms = milliseconds


def set_fetch_limits(consumer: AIOKafkaConsumer, min_bytes: int, max_wait_ms: int) -> None:
    """Set for how many bytes, and how long, brokers hold further fetches of a consumer back.

    `test_compat.py::test_a_consumer_has_the_parts_that_are_used`, `test_fetch_gathering.py`.
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
        await consumer._client.close()
    if not stopping.cancelled():
        stopping.result()


def wrap_heartbeat(
    coordinator: Any, wrap: Callable[[Callable[[], Awaitable[bool]]], Callable[[], Awaitable[bool]]]
) -> None:
    """Wrap a coordinator's heartbeat request. `test_fences.py`."""
    coordinator._do_heartbeat = wrap(coordinator._do_heartbeat)


Send = Callable[[Any], Awaitable[Any]]
"""Sends a request and returns its response."""


def wrap_requests(coordinator: Any, wrap: Callable[[Send], Send]) -> None:
    """Wrap the method with which a coordinator sends requests. `test_fencing.py`,
    `test_name_guard.py`."""
    coordinator._send_req = wrap(coordinator._send_req)


class NotMemberError(errors.KafkaError):
    """A commit cannot be made now: the consumer is joining its group. Commit again later."""


def guard_commits(coordinator: Any) -> None:
    """Let no commit end the membership of a coordinator that joins its group.

    aiokafka sends commits while it joins, without a generation. The broker rejects them, and at the
    response aiokafka resets the generation that it has joined since then, so it joins again: two
    workers that commit twice a second rebalanced each other without end. `test_commit_guard.py`.
    """

    def guarded(send: Send) -> Send:
        async def send_if_member(request: Any) -> Any:
            if not isinstance(request, OffsetCommitRequest):
                return await send(request)
            generation = coordinator.generation
            if generation < 0:
                raise NotMemberError("the consumer is joining its group")
            response = await send(request)
            if coordinator.generation != generation:
                raise NotMemberError("the consumer has joined its group again")
            return response

        return send_if_member

    wrap_requests(coordinator, guarded)


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
    `test_compat.py::test_a_consumer_has_the_private_parts_that_are_used`, `test_group_errors.py`.
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

    `test_compat.py`, `test_reader.py`.
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
