"""Whether a local cluster is whole: every node, every replica, every group coordinator."""

import asyncio
import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.kafka.clients import group_member_count
from tobogganing.devstack.kafka_config import Node

PROBED_GROUPS = ["a", "b", "c", "d"]
"""Groups that Kafka places on the offsets topic's partitions 1, 2, 3 and 0."""


async def is_open(node: Node) -> bool:
    """Whether the broker's port takes connections."""
    try:
        _, writer = await asyncio.open_connection(*node.broker.split(":"))
    except OSError:
        return False
    writer.close()
    return True


async def is_ready(nodes: list[Node]) -> bool:
    """Whether `nodes` are all in the cluster and in sync, and its group coordinators answer.

    A fresh broker answers requests for metadata long before it can manage groups.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=[node.broker for node in nodes], request_timeout_ms=2_000
    )
    # Refused connections are what is waited out here, not news.
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        expected = {node.id for node in nodes}
        if not expected <= {broker["node_id"] for broker in cluster["brokers"]}:
            return False
        for group in PROBED_GROUPS:
            await group_member_count(admin, group)
        for topic in await admin.describe_topics():
            for partition in topic["partitions"]:
                if not expected & set(partition["replicas"]) <= set(partition["isr"]):
                    return False
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
        logger.setLevel(level)
    return True
