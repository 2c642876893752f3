"""The registry as a gateway writes it: optimistically, by the rules of contract.registry.

Each record that we write carries a token of ours in a header. The follower that reads the topic
meets it there and tells its writer what became of it, so any number of changes may be under way.
"""

import asyncio
import itertools
import secrets
import time
import uuid
from typing import Protocol

import msgspec
import structlog
from aiokafka import ConsumerRecord

from contract.frame import entity_key
from contract.registry import (
    REVISION_HEADER,
    Applied,
    RegistryRecord,
    decode_record,
    encode_record,
    encode_revision,
)
from contract.topics import DAY_MS
from gateway.cluster_time import ClusterTime
from gateway.link import Appended, Headers, SendError
from service.kafka import topics_of
from service.registry import RegistryReader
from service.settings import KafkaSettings
from service.tasks import cancel

log = structlog.get_logger(__name__)

REMOVED_KEPT = 7 * DAY_MS
"""How long the record of a removal stays, in milliseconds: as long as the submissions topic keeps
what was submitted before it."""
WRITER_HEADER = "writer"
RANDOM_BITS = 11
"""Lowest bits of an incarnation, above which it has the milliseconds since the epoch: they tell
registrations of one millisecond apart. So it is exact in a double until the year 2109."""


class Sender(Protocol):
    """What a writer needs of gateway.link.Link."""

    time: ClusterTime

    async def ready(self) -> None: ...

    async def send(
        self,
        topic: str,
        value: bytes | None,
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
    sweep_interval: float = 60.0
    """Seconds between two looks for records that may be dropped."""

    def __init__(self, settings: KafkaSettings, sender: Sender) -> None:
        super().__init__(settings)
        self._topic = topics_of(settings).registry.name
        self._sender = sender
        self.time = sender.time
        self._name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._incarnation = 0
        self._changes: dict[bytes, asyncio.Future[Applied]] = {}
        self._superseded: dict[bytes, float] = {}
        self._to_heal = asyncio.Event()

    @property
    def is_current(self) -> bool:
        """Whether what a record allows can be told: all of the registry was read once, and the
        time is known."""
        return self.follower.caught_up and self.time.is_known

    def get(self, kind: str, id: str) -> RegistryRecord | None:
        return self.state.get(entity_key(kind, id))

    async def add(self, record: RegistryRecord, deadline: float) -> bool:
        """Register something new; return False if its id is taken.

        `record` gets an incarnation of its own. `deadline` is on the monotonic clock.

        Raises:
            UnconfirmedError: Kafka did not confirm it by the deadline.
        """
        base = self.state.current(record.key)
        if base is not None and not base.removed:
            return False
        record = msgspec.structs.replace(record, generation=self._next_incarnation(base))
        return await self.change(base, record, deadline)

    async def change(
        self, base: RegistryRecord | None, record: RegistryRecord, deadline: float
    ) -> bool:
        """Replace the record `base` by its successor; return False if another change came first.

        `record` gets the revision that follows from `base`.

        Raises:
            UnconfirmedError: Kafka did not confirm it by the deadline.
        """
        record = msgspec.structs.replace(record, revision=base.revision + 1 if base else 1)
        value = encode_record(record)
        return await self._write(record.key, value, (), deadline) is Applied.CURRENT

    async def run(self) -> None:
        """Follow the topic, and keep it in order, until cancelled."""
        keeping = [
            asyncio.create_task(self._heal(), name="registry healing"),
            asyncio.create_task(self._sweep(), name="registry sweep"),
        ]
        try:
            await self.follower.run()
        finally:
            await cancel(*keeping)

    def clear(self) -> None:
        super().clear()
        self._superseded.clear()

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

    def _next_incarnation(self, base: RegistryRecord | None) -> int:
        """A number that no registration has, greater than those of this id before it."""
        made = self.time.latest_ms() << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
        if base is not None and base.generation is not None:
            made = max(made, base.generation + 1)
        self._incarnation = max(made, self._incarnation + 1)
        return self._incarnation

    def _change_of(self, record: ConsumerRecord) -> asyncio.Future[Applied] | None:
        if not self._changes:
            return None
        return self._changes.get(dict(record.headers).get(WRITER_HEADER, b""))

    def _is_copy(self, record: ConsumerRecord) -> bool:
        """Tell whether a superseded record equals the current one: compaction may keep either."""
        if record.value is None:
            return False
        return decode_record(record.value) == self.state.current(record.key)

    async def _write(
        self, key: bytes, value: bytes | None, headers: Headers, deadline: float
    ) -> Applied:
        token = f"{self._name}-{next(self._numbers)}".encode()
        change: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._changes[token] = change
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._sender.ready()
                try:
                    await self._sender.send(
                        self._topic,
                        value,
                        partition=0,
                        key=key,
                        headers=[(WRITER_HEADER, token), *headers],
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
        current = self.state.current(key)
        if current is None:
            self._superseded.pop(key, None)
            return
        try:
            await self.change(current, current, time.monotonic() + self.heal_within)
        except UnconfirmedError as error:
            log.warning("superseded registry record not covered yet", reason=str(error))
        else:
            log.info("superseded registry record covered", key=key.decode())

    async def _sweep(self) -> None:
        """Drop what may be dropped. Every gateway does, and a second tombstone changes nothing."""
        while True:
            await asyncio.sleep(self.sweep_interval)
            if self.is_current:
                for key in self.state.ended(self.time.earliest_ms()):
                    await self._tombstone(key)

    async def _tombstone(self, key: bytes) -> None:
        current = self.state.current(key)
        if current is None or current.until is None or current.until > self.time.earliest_ms():
            return  # while others were dropped, another gateway was faster, or it came back
        headers = [(REVISION_HEADER, encode_revision(current.revision))]
        try:
            await self._write(key, None, headers, time.monotonic() + self.heal_within)
        except UnconfirmedError as error:
            log.warning("ended registry record not dropped yet", reason=str(error))
