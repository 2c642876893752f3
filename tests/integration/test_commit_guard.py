"""A commit that fails while a consumer joins its group does not end the new membership."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import JoinGroupRequest

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.commit_guard import NotMemberError, guard_commits
from service.kafka.aiokafka_compat.coordinator import Send, wrap_requests
from service.kafka.clients import client_options
from service.kafka.topics import ensure_topics


async def test_a_commit_during_a_join_does_not_cause_another_join(
    kafka_settings: KafkaSettings,
) -> None:
    topic = (await ensure_topics(kafka_settings)).submissions.name
    offsets = {TopicPartition(topic, 0): 0}
    consumer = AIOKafkaConsumer(
        topic,
        **client_options(kafka_settings),
        group_id=topic,
        group_instance_id="worker",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        coordinator = consumer._coordinator
        joins: list[int] = []

        def observed(send: Send) -> Send:
            async def observe(request: Any) -> Any:
                response = await send(request)
                if isinstance(request, JoinGroupRequest) and response.error_code == 0:
                    joins.append(response.generation_id)
                if isinstance(request, OffsetCommitRequest):
                    await _joined(coordinator, joins)
                return response

            return observe

        wrap_requests(coordinator, observed)
        guard_commits(coordinator)
        coordinator.reset_generation()
        with pytest.raises(KafkaError):
            await consumer.commit(offsets)
        await _joined(coordinator, joins)
        for _ in range(3):
            await consumer.commit(offsets)
        assert len(joins) == 1
        assert coordinator.generation == joins[0]
    finally:
        await consumer.stop()


async def _joined(coordinator: Any, joins: list[int]) -> None:
    async with asyncio.timeout(30):
        while not (joins and coordinator.generation == joins[-1]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_response_to_a_commit_of_an_earlier_generation_is_ignored() -> None:
    """aiokafka would reset the generation that it has joined since then."""

    async def send(request: Any) -> str:
        coordinator.generation = 8
        return "a response"

    coordinator = SimpleNamespace(generation=7, _send_req=send)
    guard_commits(coordinator)
    commit = OffsetCommitRequest("group", 7, "member", -1, [])
    with pytest.raises(NotMemberError):
        await coordinator._send_req(commit)
    assert await coordinator._send_req(commit) == "a response"
