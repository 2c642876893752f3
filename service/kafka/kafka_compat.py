"""Kafka features that aiokafka lacks: topic ids, OffsetForLeaderEpoch, and leader epochs of
records. Also keeps aiokafka from decompressing batches that it cannot.

Written for aiokafka 0.14.0. `tests/integration/test_kafka_compat.py` fails when an entry no longer
holds.
"""

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.structs import ConsumerRecord

from service.kafka.compressed_batch import readable

_BATCH_HEADER = struct.Struct(">qii")
"""Base offset, length of the rest, partition leader epoch."""
_LENGTH_FROM = 12
"""Bytes of a record batch before the part that its length field counts."""


class Leader(NamedTuple):
    """The leader of a partition, and its epoch."""

    node: int
    epoch: int

    @property
    def exists(self) -> bool:
        """Whether a broker leads the partition."""
        return self.node >= 0


class TopicDetails(NamedTuple):
    """A topic's id in hexadecimal, and the leaders of its partitions."""

    id: str
    leaders: dict[int, Leader]

    def leader(self, partition: int) -> Leader:
        """Return the partition's leader; `exists` is False if there is no such partition."""
        return self.leaders.get(partition, Leader(-1, -1))


class EpochEnd(NamedTuple):
    """The largest epoch that is not above the requested one, and the offset after its last record.

    Both are -1 if the leader knows no such epoch.
    """

    epoch: int
    offset: int


async def describe_topic(client: AIOKafkaClient, topic: str) -> TopicDetails:
    """Request a topic's id and leaders.

    Raises:
        KafkaError: no broker responds, or the topic does not exist.
    """
    node = client.get_random_node()
    response = await client.send(node, _MetadataRequest(topic))
    ((error, _, id, _, partitions, *_),) = response.topics
    if error:
        raise for_code(error)(topic)
    leaders = {number: Leader(node, epoch) for _, number, node, epoch, *_ in partitions}
    return TopicDetails(id, leaders)


async def epoch_ends(
    client: AIOKafkaClient, topic: str, leaders: Mapping[int, Leader], epochs: Mapping[int, int]
) -> dict[int, EpochEnd]:
    """Request the end offset of a leader epoch from each partition's leader (KIP-101, KIP-320).

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


def patch_record_batches() -> None:
    """Make every consumer of this process tag records with their batch's leader epoch, and
    decompress batches in bounded memory.

    The epoch is stored in `checksum`, which is None for the record format used since Kafka 0.11.
    """
    fetcher.MemoryRecords = _EpochRecords
    fetcher.PartitionRecords = _TaggedRecords


def leader_epoch(message: Any) -> int | None:
    """Return the leader epoch of a record or of a Faust message made from it; None if not
    tagged."""
    epoch: int | None = message.checksum
    return epoch


class PackedBatch(NamedTuple):
    """An encoded record batch, which may be compressed."""

    epoch: int
    data: memoryview


def packed_batches(data: bytes) -> Iterator[PackedBatch]:
    """Yield the record batches in fetched data; the last batch may be truncated."""
    view = memoryview(data)
    position = 0
    while position + _BATCH_HEADER.size <= len(data):
        _, length, epoch = _BATCH_HEADER.unpack_from(data, position)
        end = position + _LENGTH_FROM + length
        yield PackedBatch(epoch, view[position:end])
        position = end


class _EpochRecords(fetcher.MemoryRecords):
    """Record batches, with the leader epoch of the last returned batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._packed = packed_batches(data)
        self.epoch = -1

    def next_batch(self) -> Any:
        batch = super().next_batch()
        if batch is None:
            return None
        self.epoch, packed = next(self._packed)
        return readable(batch, packed)


class _TaggedRecords(fetcher.PartitionRecords):
    def _consumer_record(self, tp: Any, record: Any) -> ConsumerRecord[Any, Any]:
        made: ConsumerRecord[Any, Any] = super()._consumer_record(tp, record)
        made.checksum = self._records.epoch
        return made


class _Uuid(AbstractType[str]):
    @classmethod
    def encode(cls, value: str) -> bytes:
        return bytes.fromhex(value)

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return data.read(16).hex()


_NO_ID = "0" * 32


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


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
