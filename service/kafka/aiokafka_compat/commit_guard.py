"""Commits of an aiokafka consumer while it joins its group."""

from typing import Any

from aiokafka import errors
from aiokafka.protocol.commit import OffsetCommitRequest

from service.kafka.aiokafka_compat.coordinator import Send, wrap_requests


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
