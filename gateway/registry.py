"""The registry as a gateway writes it: optimistically, by the rules of contract.registry.

Each record that we write carries a token of ours in a header. The follower that reads the topic
meets it there and tells its writer what became of it, so any number of changes may be under way.
"""

import asyncio
import itertools
import time
import uuid
from typing import Protocol

import msgspec
import structlog
from aiokafka import ConsumerRecord

from contract.frame import entity_key
from contract.registry import (
    Applied,
    RegistryRecord,
    decode_record,
    encode_record,
)
from gateway.link import Appended, Headers, SendError
from service.kafka import topics_of
from service.registry import RegistryReader
from service.settings import KafkaSettings
from service.tasks import cancel

log = structlog.get_logger(__name__)

WRITER_HEADER = "writer"


class Sender(Protocol):
    """What a writer needs of gateway.link.Link."""

    async def ready(self) -> None: ...

    async def send(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> Appended: ...


class UnconfirmedError(Exception):
    """Kafka did not confirm a change in time: it may still come to be."""


class RegistryWriter(RegistryReader):
    """Follows the registry, adds to it, and keeps the current record of each key the last one."""

    heal_after: float = 60.0
    """Seconds after which another writer's superseded record is covered: it may be gone."""
    heal_interval: float = 1.0
    heal_within: float = 10.0

    def __init__(self, settings: KafkaSettings, sender: Sender) -> None:
        super().__init__(settings)
        self._topic = topics_of(settings).registry.name
        self._sender = sender
        self._name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._changes: dict[bytes, asyncio.Future[Applied]] = {}
        self._superseded: dict[bytes, float] = {}
        self._to_heal = asyncio.Event()

    def get(self, kind: str, id: str) -> RegistryRecord | None:
        return self.state.get(entity_key(kind, id))

    async def add(self, record: RegistryRecord, deadline: float) -> bool:
        """Register a new entity; return False if its id exists already.

        `deadline` is on the monotonic clock.

        Raises:
            UnconfirmedError: Kafka did not confirm it by the deadline.
        """
        if self.get(record.kind, record.id) is not None:
            return False
        return await self._change(record, deadline) is Applied.CURRENT

    async def run(self) -> None:
        """Follow the topic, and heal it, until cancelled."""
        healing = asyncio.create_task(self._heal(), name="registry healing")
        try:
            await self.follower.run()
        finally:
            await cancel(healing)

    def on_applied(self, record: ConsumerRecord, applied: Applied) -> None:
        change = self._change_of(record)
        if change is not None and not change.done():
            change.set_result(applied)
        if applied is Applied.CURRENT or self._is_copy(record):
            self._superseded.pop(record.key, None)
        else:
            delay = self.heal_after if change is None else 0.0
            self._superseded[record.key] = time.monotonic() + delay
            self._to_heal.set()

    def _change_of(self, record: ConsumerRecord) -> asyncio.Future[Applied] | None:
        if not self._changes:
            return None
        return self._changes.get(dict(record.headers).get(WRITER_HEADER, b""))

    def _is_copy(self, record: ConsumerRecord) -> bool:
        """Tell whether a superseded record equals the current one: compaction may keep either."""
        return decode_record(record.value) == self.state.get(record.key)

    async def _change(self, record: RegistryRecord, deadline: float) -> Applied:
        token = f"{self._name}-{next(self._numbers)}".encode()
        change: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._changes[token] = change
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._sender.ready()
                try:
                    await self._sender.send(
                        self._topic,
                        encode_record(record),
                        partition=0,
                        key=entity_key(record.kind, record.id),
                        headers=[(WRITER_HEADER, token)],
                    )
                except SendError as error:
                    # The follower may still meet it, so wait and see.
                    log.warning("registry record not confirmed", reason=str(error))
                return await change
        except TimeoutError as error:
            raise UnconfirmedError("Kafka did not confirm the change in time") from error
        finally:
            del self._changes[token]

    async def _heal(self) -> None:
        while True:
            await self._to_heal.wait()
            if self.follower.caught_up:
                now = time.monotonic()
                for key in [key for key, due in self._superseded.items() if due <= now]:
                    await self._cover(key)
            if self._superseded:
                await asyncio.sleep(self.heal_interval)
            else:
                self._to_heal.clear()

    async def _cover(self, key: bytes) -> None:
        """Write a copy of the current record after the superseded one."""
        current = self.state.get(key)
        if current is None:
            self._superseded.pop(key, None)
            return
        copy = msgspec.structs.replace(current, revision=current.revision + 1)
        try:
            await self._change(copy, time.monotonic() + self.heal_within)
        except UnconfirmedError as error:
            log.warning("superseded registry record not covered yet", reason=str(error))
        else:
            log.info("superseded registry record covered", key=key.decode())
