"""Rule 8, the other half: who stops in order leaves the group, instead of being missed.

A static member that merely goes away keeps its partitions until its session ends: right for one
that was killed and is back in 3 s, but a restart in order may take longer than a session (a busy
machine, a pod that moves), and one that was taken away never comes back. So the others get its
partitions at once. aiokafka never lets a static member leave, so it is done here, and only once
nothing of this worker is on its way to Kafka any more.
"""

import structlog
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.group import LeaveGroupRequest

from service.config.settings import KafkaSettings
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)


async def leave_group(settings: KafkaSettings, group: str, member: str) -> None:
    """Leave a group. Where Kafka does not answer, the session ends by itself."""
    client = AIOKafkaClient(**client_options(settings))
    try:
        await client.bootstrap()
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(coordinator, LeaveGroupRequest(group, member))
        if answer.error_code:
            raise for_code(answer.error_code)()
    except KafkaError as error:
        log.warning("did not leave the group", reason=repr(error))
    else:
        log.info("left the group")
    finally:
        await client.close()
