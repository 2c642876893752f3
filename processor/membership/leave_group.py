"""Rule 8, second part: a worker that stops normally leaves the group.

A static member that only disconnects keeps its partitions until its session ends. That is right for
a killed worker that is back in 3 s. But a normal restart may take longer than a session (a busy
machine, a pod that moves), and a removed worker never returns; leaving gives its partitions to the
others at once. aiokafka never lets a static member leave, so this module sends the request, after
the worker's last write to Kafka.
"""

import structlog
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.group import LeaveGroupRequest

from service.config.settings import KafkaSettings
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)


async def leave_group(settings: KafkaSettings, group: str, member: str) -> None:
    """Leave a group. If Kafka does not respond, the session expires instead."""
    client = AIOKafkaClient(**client_options(settings))
    try:
        await client.bootstrap()
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        response = await client.send(coordinator, LeaveGroupRequest(group, member))
        if response.error_code:
            raise for_code(response.error_code)()
    except KafkaError as error:
        log.warning("could not leave the group", reason=repr(error))
    else:
        log.info("left the group")
    finally:
        await client.close()
