"""The registry as a gateway writes it: optimistically, by the rules of contract.registry.

Each written record carries a unique token in a header. The tailer reads the record back and
notifies the writer of the result, so any number of changes may be in progress.
"""

import asyncio
import itertools
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from aiokafka import ConsumerRecord

from contract.entity import entity_key
from contract.registry import (
    INCARNATION_RANDOM_BITS,
    REVISION_HEADER,
    RegistryRecord,
    decode_record,
    encode_record,
    encode_revision,
)
from contract.registry_state import ApplyResult
from contract.topics import DAY_MS
from gateway.produce.cluster_time import ClusterTime
from gateway.produce.producer import Headers, KeyedRecord, RecordMetadata, SendError
from service.config.settings import KafkaSettings
from service.kafka.registry import RegistryReader
from service.kafka.topics import topics_from
from service.tasks import cancel

log = structlog.get_logger(__name__)

TOMBSTONE_DELAY_MS = 7 * DAY_MS
"""How long the record of a removal is kept, in milliseconds: as long as the submissions topic keeps
the submissions made before it."""
WRITER_HEADER = "writer"


class RecordSender(Protocol):
    """The part of gateway.produce.producer.ResilientProducer that a writer uses."""

    time: ClusterTime

    async def wait_until_ready(self) -> None: ...

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> RecordMetadata: ...

    async def send_all(
        self, topic: str, records: Sequence[KeyedRecord], *, partition: int
    ) -> None: ...


class UnconfirmedError(Exception):
    """Kafka did not confirm a change in time; it may still take effect."""


class RegistryWriter(RegistryReader):
    """Tails the registry, appends records, and keeps the current record of each key the last one in
    the topic."""

    repair_delay: float = 60.0
    """Seconds after which another writer's superseded record is repaired, because that writer may
    have stopped."""
    repair_interval: float = 1.0
    repair_timeout: float = 10.0
    expiry_interval: float = 60.0
    """Seconds between two checks for records that can be deleted."""

    def __init__(self, settings: KafkaSettings, sender: RecordSender) -> None:
        super().__init__(settings)
        self._topic = topics_from(settings).registry.name
        self._sender = sender
        self.time = sender.time
        self._name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._incarnation = 0
        self._pending_changes: dict[bytes, asyncio.Future[ApplyResult]] = {}
        self._superseded: dict[bytes, float] = {}
        self._repair_needed = asyncio.Event()

    @property
    def is_current(self) -> bool:
        """Whether the registry was read to its end once and the cluster time is known, so that
        credentials can be judged."""
        return self.tailer.caught_up and self.time.is_known

    def get(self, kind: str, id: str) -> RegistryRecord | None:
        return self.state.get(entity_key(kind, id))

    def with_incarnation(self, record: RegistryRecord) -> RegistryRecord:
        """Return a new entity's record with the incarnation that `add` is to register."""
        base = self.state.current(record.key)
        return msgspec.structs.replace(record, incarnation=self._next_incarnation(base))

    async def add(self, record: RegistryRecord, deadline: float) -> bool:
        """Register a new entity; return False if its id is taken, or was registered since the
        record got its incarnation.

        A record without an incarnation gets one. `deadline` is on the monotonic clock.

        Raises:
            UnconfirmedError: Kafka did not confirm the record by the deadline.
        """
        base = self.state.current(record.key)
        if base is not None and not base.removed:
            return False
        if record.incarnation is None:
            record = self.with_incarnation(record)
        elif base is not None and (base.incarnation or 0) >= record.incarnation:
            return False
        return await self.change(base, record, deadline)

    async def add_all(
        self, records: Sequence[RegistryRecord], deadline: float
    ) -> list[bool | None]:
        """Register many as `add` does one; return its result for each, None for unconfirmed."""
        results: list[bool | None] = [False] * len(records)
        sent: dict[int, bytes] = {}
        batch = []
        for place, record in enumerate(records):
            base = self.state.current(record.key)
            if base is not None and not base.removed:
                continue
            added = msgspec.structs.replace(
                record,
                incarnation=self._next_incarnation(base),
                revision=base.revision + 1 if base else 1,
            )
            sent[place] = token = self._new_token()
            batch.append(KeyedRecord(record.key, encode_record(added), [(WRITER_HEADER, token)]))
        loop = asyncio.get_running_loop()
        changes: dict[bytes, asyncio.Future[ApplyResult]] = {
            token: loop.create_future() for token in sent.values()
        }
        self._pending_changes |= changes
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._sender.wait_until_ready()
                try:
                    await self._sender.send_all(self._topic, batch, partition=0)
                except SendError as error:
                    # The tailer may still read them.
                    log.warning("registry records not confirmed", reason=str(error))
                if changes:
                    await asyncio.wait(changes.values())
        except TimeoutError:
            log.warning("registry records not confirmed in time")
        finally:
            for token in changes:
                del self._pending_changes[token]
        for place, token in sent.items():
            change = changes[token]
            results[place] = change.result() is ApplyResult.CURRENT if change.done() else None
        return results

    async def change(
        self, base: RegistryRecord | None, record: RegistryRecord, deadline: float
    ) -> bool:
        """Replace the record `base` by `record`; return False if another change came first.

        `record` gets the revision after that of `base`.

        Raises:
            UnconfirmedError: Kafka did not confirm the record by the deadline.
        """
        record = msgspec.structs.replace(record, revision=base.revision + 1 if base else 1)
        value = encode_record(record)
        return await self._write(record.key, value, (), deadline) is ApplyResult.CURRENT

    async def change_current(
        self,
        base: RegistryRecord,
        change: Callable[[RegistryRecord], RegistryRecord],
        deadline: float,
    ) -> RegistryRecord | None:
        """Change the current record of the registration that `base` is a record of, whatever others
        change at the same time; return the record that was replaced, None if the entity was removed
        by then.

        Raises:
            UnconfirmedError: Kafka did not confirm a change by the deadline.
        """
        current: RegistryRecord | None = base
        while current is not None and current.incarnation == base.incarnation:
            if await self.change(current, change(current), deadline):
                return current
            current = self.get(base.kind, base.id)
        return None

    async def run(self) -> None:
        """Tail and maintain the topic until cancelled."""
        tasks = [
            asyncio.create_task(self._repair_superseded(), name="registry repair"),
            asyncio.create_task(self._drop_expired(), name="registry expiry"),
        ]
        try:
            await self.tailer.run()
        finally:
            await cancel(*tasks)

    def clear(self) -> None:
        super().clear()
        self._superseded.clear()

    def on_applied(self, record: ConsumerRecord, result: ApplyResult) -> None:
        change = self._pending_change(record)
        if change is not None and not change.done():
            change.set_result(result)
        if result is ApplyResult.CURRENT or self._is_copy(record):
            self._superseded.pop(record.key, None)
        else:
            delay = self.repair_delay if change is None else 0.0
            self._superseded[record.key] = time.monotonic() + delay
            self._repair_needed.set()

    def _new_token(self) -> bytes:
        return f"{self._name}-{next(self._numbers)}".encode()

    def _next_incarnation(self, base: RegistryRecord | None) -> int:
        """Return a unique incarnation, greater than all earlier ones of this id."""
        candidate = self.time.latest_ms() << INCARNATION_RANDOM_BITS | secrets.randbits(
            INCARNATION_RANDOM_BITS
        )
        if base is not None and base.incarnation is not None:
            candidate = max(candidate, base.incarnation + 1)
        self._incarnation = max(candidate, self._incarnation + 1)
        return self._incarnation

    def _pending_change(self, record: ConsumerRecord) -> asyncio.Future[ApplyResult] | None:
        if not self._pending_changes:
            return None
        return self._pending_changes.get(dict(record.headers).get(WRITER_HEADER, b""))

    def _is_copy(self, record: ConsumerRecord) -> bool:
        """Return whether a superseded record equals the current one; compaction may then keep
        either."""
        if record.value is None:
            return False
        return decode_record(record.value) == self.state.current(record.key)

    async def _write(
        self, key: bytes, value: bytes | None, headers: Headers, deadline: float
    ) -> ApplyResult:
        token = self._new_token()
        change: asyncio.Future[ApplyResult] = asyncio.get_running_loop().create_future()
        self._pending_changes[token] = change
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._sender.wait_until_ready()
                try:
                    await self._sender.send(
                        self._topic,
                        value,
                        partition=0,
                        key=key,
                        headers=[(WRITER_HEADER, token), *headers],
                    )
                except SendError as error:
                    # The tailer may still read the record, so wait until the deadline.
                    log.warning("registry record not confirmed", reason=str(error))
                return await change
        except TimeoutError as error:
            raise UnconfirmedError("Kafka did not confirm the change in time") from error
        finally:
            del self._pending_changes[token]

    async def _repair_superseded(self) -> None:
        while True:
            await self._repair_needed.wait()
            if self.tailer.caught_up:
                now = time.monotonic()
                for key in [key for key, due in self._superseded.items() if due <= now]:
                    await self._rewrite_current(key)
            if self._superseded:
                await asyncio.sleep(self.repair_interval)
            else:
                self._repair_needed.clear()

    async def _rewrite_current(self, key: bytes) -> None:
        """Append a copy of the current record after the superseded one."""
        current = self.state.current(key)
        if current is None:
            self._superseded.pop(key, None)
            return
        try:
            await self.change(current, current, time.monotonic() + self.repair_timeout)
        except UnconfirmedError as error:
            log.warning("superseded registry record not repaired yet", reason=str(error))
        else:
            log.info("superseded registry record repaired", key=key.decode())

    async def _drop_expired(self) -> None:
        """Delete expired records. All gateways do this; a second tombstone changes nothing."""
        while True:
            await asyncio.sleep(self.expiry_interval)
            if self.is_current:
                for key in self.state.expired_keys(self.time.earliest_ms()):
                    await self._tombstone(key)

    async def _tombstone(self, key: bytes) -> None:
        current = self.state.current(key)
        if (
            current is None
            or current.expires_at_ms is None
            or current.expires_at_ms > self.time.earliest_ms()
        ):
            return  # changed since the list was made
        headers = [(REVISION_HEADER, encode_revision(current.revision))]
        try:
            await self._write(key, None, headers, time.monotonic() + self.repair_timeout)
        except UnconfirmedError as error:
            log.warning("expired registry record not deleted yet", reason=str(error))
