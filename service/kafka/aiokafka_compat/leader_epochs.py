"""Where leader epochs end: OffsetForLeaderEpoch requests, which aiokafka does not have."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

from service.kafka.aiokafka_compat.topic_details import Leader


class EpochEnd(NamedTuple):
    """The largest epoch that is not above the requested one, and the offset after its last record.

    Both are -1 if the leader knows no such epoch.
    """

    epoch: int
    offset: int


async def epoch_ends(
    client: AIOKafkaClient, topic: str, leaders: Mapping[int, Leader], epochs: Mapping[int, int]
) -> dict[int, EpochEnd]:
    """Request the end offset of a leader epoch from each partition's leader (KIP-101, KIP-320).

    `tests/integration/test_aiokafka_compat.py`.

    Raises:
        KafkaError: a partition has no leader, its leader does not respond, or its epoch differs
            from that in `leaders`.
    """
    by_node: dict[int, list[tuple[int, int, int]]] = {}
    for partition, epoch in epochs.items():
        leader = leaders.get(partition)
        if leader is None or not leader.exists:
            raise LeaderNotAvailableError(f"{topic} partition {partition}")
        by_node.setdefault(leader.node, []).append((partition, leader.epoch, epoch))
    ends = {}
    for node, partitions in by_node.items():
        if (
            client.cluster.broker_metadata(node) is None
        ):  # a new broker, for which `send` would fail an assertion
            await client.force_metadata_update()
            if client.cluster.broker_metadata(node) is None:
                raise LeaderNotAvailableError(f"node {node}")
        response = await client.send(node, _EpochRequest(topic, partitions))
        for _, found in response.topics:
            for error, partition, epoch, offset in found:
                if error:
                    raise for_code(error)(f"{topic} partition {partition}")
                ends[partition] = EpochEnd(epoch, offset)
    return ends


class _EpochResponse(Response):
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class _EpochRequestStruct(RequestStruct):
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EpochResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class _EpochRequest(Request[_EpochRequestStruct]):
    API_KEY = 23

    def __init__(self, topic: str, partitions: list[tuple[int, int, int]]) -> None:
        self._topic = topic
        self._partitions = partitions

    def build(self, request_struct_class: type[_EpochRequestStruct]) -> _EpochRequestStruct:
        return request_struct_class(-1, [(self._topic, self._partitions)])
