"""Two workers of one name: noticed, said on both sides, and ended by the older one.

Kafka lets the newest worker of a name take the place of the one before it, at once and without a
rebalance. aiokafka joins again when its member id is not known any more, and takes the place back:
the two would fence each other for ever. Kafka says FENCED_INSTANCE_ID (KIP-345) where a request
names the instance, and UNKNOWN_MEMBER_ID where it does not, as aiokafka's heartbeats do not.
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
from service.kafka.aiokafka_compat import FencedInstanceIdError, Send, wrap_requests
from service.kafka.clients import admin_client
from service.tasks import abort_misconfigured

JOIN_TIMEOUT = 10.0
"""Seconds that a join of this worker's own gets to say which member it is now."""
MAX_REPLACEMENTS = 2
"""Joins after which a worker may find another one in its place and join again; after one more it
ends, or two workers of one name would take the place from each other forever."""
MEMBER_REQUESTS = (HeartbeatRequest, SyncGroupRequest, OffsetCommitRequest)
"""Requests that name the member. Two workers that replace each other several times a second send no
heartbeat in between."""
UUID_LENGTH = len("-00000000-0000-0000-0000-000000000000")

log = structlog.get_logger(__name__)


class NameGuard:
    """Watches what the group's coordinator answers, and asks it who else has this name."""

    FENCED: ClassVar = FencedInstanceIdError.errno
    UNKNOWN: ClassVar = errors.UnknownMemberIdError.errno

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings
        self._replaced: set[int] = set()
        """Numbers of the joins after which another worker was found in this one's place."""

    async def warn_of_predecessor(self, admin: AIOKafkaAdminClient) -> None:
        """Say at the start that the group has a member of this name: killed, or still running."""
        if host := await self._host_of_another(admin, ()):
            log.warning(
                "a worker of this name is in the group, and this one takes its place: if that one "
                "still runs, it ends; give each its own WORKER_NAME",
                worker_name=self._settings.worker_name,
                host=host,
            )

    def watch(self, coordinator: Any) -> None:
        """Check each response that aiokafka's coordinator gets."""
        wrap_requests(coordinator, lambda send: self._watched(coordinator, send))

    def _watched(self, coordinator: Any, send: Send) -> Send:
        own: set[str] = set()
        """Each member that this worker has been: after a freeze, a response to the one before it
        may come when the group has it under a new id already."""
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
                self._end(await self._ask(own) or "a host that Kafka did not name")
            elif self.FENCED in codes or (
                self.UNKNOWN in codes and isinstance(request, MEMBER_REQUESTS)
            ):
                await self._end_if_replaced(own, joined, joined_before)
            return response

        return watched

    async def _end_if_replaced(
        self, own: Collection[str], joined: asyncio.Event, joins: int
    ) -> None:
        if not (host := await self._ask(own)):
            return
        self._replaced.add(joins)
        if len(self._replaced) > MAX_REPLACEMENTS:
            self._end(host)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_TIMEOUT):
                await joined.wait()  # the group may have let this worker join, and not said so yet
        if host := await self._ask(own):
            self._end(host)

    async def _ask(self, own: Collection[str]) -> str:
        try:
            async with admin_client(self._settings) as admin:
                return await self._host_of_another(admin, own)
        except (errors.KafkaError, OSError):
            return ""

    def _end(self, host: str) -> None:
        name = self._settings.worker_name
        abort_misconfigured(
            SettingsError(
                f"WORKER_NAME={name}: another worker of this name has joined, on {host}, and has "
                "this one's partitions now. Give each worker a name of its own, or all of one "
                "machine a WORKER_NAMES_FOLDER"
            ),
            "this worker was replaced",
        )

    async def _host_of_another(self, admin: AIOKafkaAdminClient, own: Collection[str]) -> str:
        """Where a member of our name is that has none of our `own` ids; empty if there is none.

        Kafka begins a static member's id with its instance id.
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
    """What the group calls this worker, over its restarts."""
    return f"{settings.group}-{settings.worker_name}"
