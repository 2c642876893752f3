"""Topic ids and leader epochs, which aiokafka's metadata lacks: Metadata requests of version 10."""

from io import BytesIO
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


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


async def fetch_topic_details(client: AIOKafkaClient, topic: str) -> TopicDetails:
    """Request a topic's id and leaders.

    `tests/integration/test_aiokafka_compat.py`.

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
