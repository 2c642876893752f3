"""Two workers of one name: noticed, said on both sides, and ended by the older one.

Kafka lets the newest worker of a name take the place of the one before it, at once and without a
rebalance. aiokafka joins again when its member id is not known any more, and takes the place back:
the two would fence each other for ever. Kafka says FENCED_INSTANCE_ID (KIP-345) where a request
names the instance, and UNKNOWN_MEMBER_ID where it does not, as aiokafka's heartbeats do not.
"""

import uuid
from typing import Any, ClassVar

import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import HeartbeatRequest

from processor.settings import ProcessorSettings
from service.aiokafka_compat import FencedInstanceIdError, watch_responses
from service.kafka import administration
from service.settings import SettingsError
from service.tasks import misconfigured

UUID_LENGTH = len("-00000000-0000-0000-0000-000000000000")

log = structlog.get_logger(__name__)


class NameGuard:
    """Watches what the group's coordinator answers, and asks it who else has this name."""

    FENCED: ClassVar = FencedInstanceIdError.errno
    UNKNOWN: ClassVar = errors.UnknownMemberIdError.errno

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings

    async def warn_of_predecessor(self, admin: AIOKafkaAdminClient) -> None:
        """Say at the start that the group has a member of this name: killed, or still running."""
        if host := await self._host_of_another(admin, ""):
            log.warning(
                "a worker of this name is in the group, and this one takes its place: if that one "
                "still runs, it ends; give each its own WORKER_NAME",
                worker_name=self._settings.worker_name,
                host=host,
            )

    def watch(self, coordinator: Any) -> None:
        """Check each response that aiokafka's coordinator gets."""

        async def check(request: Any, member: str, response: Any) -> None:
            code = getattr(response, "error_code", 0)
            if code == self.FENCED:
                self._end(await self._ask(member) or "a host that Kafka did not name")
            elif code == self.UNKNOWN and isinstance(request, HeartbeatRequest):
                await self._end_if_replaced(member)

        watch_responses(coordinator, check)

    async def _end_if_replaced(self, member: str) -> None:
        if host := await self._ask(member):
            self._end(host)

    async def _ask(self, member: str) -> str:
        try:
            async with administration(self._settings) as admin:
                return await self._host_of_another(admin, member)
        except (errors.KafkaError, OSError):
            return ""

    def _end(self, host: str) -> None:
        name = self._settings.worker_name
        misconfigured(
            SettingsError(
                f"WORKER_NAME={name}: another worker of this name has joined, on {host}, and has "
                "this one's partitions now. Give each worker a name of its own, or all of one "
                "machine a WORKER_NAMES_FOLDER"
            ),
            "this worker was replaced",
        )

    async def _host_of_another(self, admin: AIOKafkaAdminClient, member: str) -> str:
        """Where a member of our name is that is another process; empty if there is none.

        Kafka begins a static member's id with its instance id. A member with our client id is this
        process: it may have joined again since its id was `member`.
        """
        instance = instance_id(self._settings)
        (response,) = await admin.describe_consumer_groups([self._settings.group])
        (group,) = response.to_object()["groups"]
        if group["error_code"]:
            raise errors.for_code(group["error_code"])()
        for each in group["members"]:
            id = each["member_id"]
            is_other = id != member and each["client_id"] != client_id(self._settings)
            if is_other and id[:-UUID_LENGTH] == instance:
                return str(each["client_host"]).lstrip("/")
        return ""


_PROCESS = uuid.uuid4().hex[:12]


def client_id(settings: ProcessorSettings) -> str:
    """What this process calls itself to Kafka: no other one has the same, of whatever name."""
    return f"{instance_id(settings)}-{_PROCESS}"


def instance_id(settings: ProcessorSettings) -> str:
    """What the group calls this worker, over its restarts."""
    return f"{settings.group}-{settings.worker_name}"
