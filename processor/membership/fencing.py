"""Detects two workers with the same name; the older one ends.

Kafka lets the newest worker of a name replace the previous one at once, without a rebalance.
aiokafka rejoins when its member id is unknown, and so replaces the new worker in turn: the two
would fence each other forever. Kafka responds FENCED_INSTANCE_ID (KIP-345) to requests with the
instance id, and UNKNOWN_MEMBER_ID to those without it, such as aiokafka's heartbeats.
"""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any, ClassVar

import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from processor.settings import ProcessorSettings
from service.config.settings import SettingsError
from service.kafka.aiokafka_compat.coordinator import FencedInstanceIdError, Send, wrap_requests
from service.kafka.clients import admin_client
from service.tasks import abort_misconfigured

JOIN_TIMEOUT = 10.0
"""Seconds that this worker's own join may take to return its member id."""
MAX_REPLACEMENTS = 2
"""Number of joins after which this worker may rejoin when another one has replaced it. After one
more it ends; otherwise two workers of one name would replace each other forever."""
MEMBER_REQUESTS = (HeartbeatRequest, SyncGroupRequest, OffsetCommitRequest)
"""Requests that identify the member. Two workers that replace each other several times a second
send no heartbeat in between."""
UUID_LENGTH = len("-00000000-0000-0000-0000-000000000000")

log = structlog.get_logger(__name__)


class NameGuard:
    """Checks the coordinator's responses and looks for other group members with this
    worker's name."""

    FENCED: ClassVar = FencedInstanceIdError.errno
    UNKNOWN: ClassVar = errors.UnknownMemberIdError.errno

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings
        self._replaced: set[int] = set()
        """Numbers of the joins after which another worker had replaced this one."""

    async def warn_of_predecessor(self, admin: AIOKafkaAdminClient) -> None:
        """Warn at startup if the group has a member of this name, killed or still running."""
        if host := await self._host_of_another(admin, ()):
            log.warning(
                "the group has a worker of this name, which this one replaces; if it is still "
                "running, it will end: give each worker its own WORKER_NAME",
                worker_name=self._settings.worker_name,
                host=host,
            )

    def watch(self, coordinator: Any) -> None:
        """Check each response that aiokafka's coordinator receives."""
        wrap_requests(coordinator, lambda send: self._watched(coordinator, send))

    def _watched(self, coordinator: Any, send: Send) -> Send:
        own: set[str] = set()
        """All member ids that this worker has had: after a freeze, a response to an older one may
        arrive when the group already has this worker under a new id."""
        joined = asyncio.Event()
        joined.set()
        joins = 0

        async def watched(request: Any) -> Any:
            nonlocal joins
            member, joined_before = coordinator.member_id, joins
            is_join = isinstance(request, JoinGroupRequest)
            if is_join:
                joined.clear()
            try:
                response = await send(request)
            finally:
                if is_join:
                    joined.set()
            own.update((member, coordinator.member_id))
            if is_join:
                own.add(response.member_id)
                joins += 1
            codes = _error_codes(request, response)
            if self.FENCED in codes and member == coordinator.member_id:
                self._end(await self._find_replacement(own) or "a host that Kafka did not name")
            elif self.FENCED in codes or (
                self.UNKNOWN in codes and isinstance(request, MEMBER_REQUESTS)
            ):
                await self._end_if_replaced(own, joined, joined_before)
            return response

        return watched

    async def _end_if_replaced(
        self, own: Collection[str], joined: asyncio.Event, joins: int
    ) -> None:
        if not (host := await self._find_replacement(own)):
            return
        self._replaced.add(joins)
        if len(self._replaced) > MAX_REPLACEMENTS:
            self._end(host)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_TIMEOUT):
                # the group may have accepted this worker's join without a response yet
                await joined.wait()
        if host := await self._find_replacement(own):
            self._end(host)

    async def _find_replacement(self, own: Collection[str]) -> str:
        try:
            async with admin_client(self._settings) as admin:
                return await self._host_of_another(admin, own)
        except (errors.KafkaError, OSError):
            return ""

    def _end(self, host: str) -> None:
        name = self._settings.worker_name
        abort_misconfigured(
            SettingsError(
                f"WORKER_NAME={name}: another worker of this name has joined on {host} and now has "
                "this worker's partitions. Give each worker its own name, or set "
                "WORKER_NAMES_FOLDER for all workers of a machine"
            ),
            "this worker was replaced",
        )

    async def _host_of_another(self, admin: AIOKafkaAdminClient, own: Collection[str]) -> str:
        """Return the host of a member with our name but none of our `own` ids; empty if there is
        none.

        A static member's id starts with its instance id.
        """
        instance = instance_id(self._settings)
        (response,) = await admin.describe_consumer_groups([self._settings.group])
        (group,) = response.to_object()["groups"]
        if group["error_code"]:
            raise errors.for_code(group["error_code"])()
        for each in group["members"]:
            id = each["member_id"]
            if id not in own and id[:-UUID_LENGTH] == instance:
                return str(each["client_host"]).lstrip("/")
        return ""


def _error_codes(request: Any, response: Any) -> Collection[int]:
    if isinstance(request, OffsetCommitRequest):
        return {code for _, partitions in response.topics for _, code in partitions}
    return (getattr(response, "error_code", 0),)


def instance_id(settings: ProcessorSettings) -> str:
    """Return this worker's group instance id, which is the same after a restart."""
    return f"{settings.group}-{settings.worker_name}"
