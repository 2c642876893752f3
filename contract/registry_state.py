"""The state of the registry: the current record of each key, by the rules of contract.registry."""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum

from sortedcontainers import SortedList

from contract.entity import entity_key
from contract.kinds import CLIENT, HEADEND
from contract.registry import (
    CLUSTER,
    CLUSTER_LABELS,
    RegistryRecord,
    decode_record,
    encode_record,
)

MAX_DECODED = 20_000
"""Maximum number of decoded records in the cache, about 15 MB; the oldest is evicted."""


class ApplyResult(Enum):
    """The result of applying a registry record."""

    CURRENT = "current"
    SUPERSEDED = "superseded"


RegistryListener = Callable[[bytes, RegistryRecord | None], None]
"""Called with a key and its new record, None if the record was deleted."""


class RegistryState:
    """The current record of each key, as of the records applied.

    Records are stored encoded; decoded, a fleet of a million would take a gigabyte. Callers must
    not modify a record: while it is current, other callers get the same object.
    """

    def __init__(self) -> None:
        self._listeners: list[RegistryListener] = []
        self._begin()

    def add_listener(self, listener: RegistryListener) -> None:
        """Call `listener` with the key of each record that changes, and with the new record."""
        self._listeners.append(listener)

    def clear(self) -> None:
        """Remove all records."""
        keys = list(self._values)
        self._begin()
        for key in keys:
            self._notify(key, None)

    def _begin(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._decoded: dict[bytes, RegistryRecord] = {}
        self._registered: SortedList[bytes] = SortedList()
        self._expires_at_ms: dict[bytes, int] = {}
        self._counts: Counter[str] = Counter()
        self._client_types: Counter[str] = Counter()
        self._cluster_sizes: Counter[str] = Counter()
        self._label_values: dict[str, Counter[str]] = {name: Counter() for name in CLUSTER_LABELS}

    def apply(
        self, offset: int, key: bytes, value: bytes | None, revision: int | None = None
    ) -> ApplyResult:
        """Apply the next record of the topic, in order.

        A revision is accepted if it is higher than the current one, not only if it is the next:
        after compaction a reader may not see every revision. `revision` is that of a tombstone.
        Such a tombstone removes only a record with that revision and an `expires_at_ms`, because a
        late tombstone may meet a new registration with the same revision. A tombstone without a
        revision removes any record; current code never writes one.

        Raises:
            RegistryError: the record cannot be decoded; the state is unchanged.
        """
        current = self.current(key)
        if value is None:
            return self._apply_tombstone(key, current, revision)
        record = decode_record(value)
        if current is not None and record.revision <= current.revision:
            return ApplyResult.SUPERSEDED
        if record.incarnation is None:
            record.incarnation = offset
            value = encode_record(record)
        self._values[key] = value
        self._decoded.pop(key, None)
        self._update_counts(key, current, record)
        return ApplyResult.CURRENT

    def encoded(self, key: bytes) -> bytes | None:
        """Return the current record of a key in encoded form: the same object until it changes."""
        return self._values.get(key)

    def current(self, key: bytes) -> RegistryRecord | None:
        """Return the current record of a key, even if it is a removal."""
        record = self._decoded.get(key)
        if record is None:
            value = self._values.get(key)
            if value is None:
                return None
            record = decode_record(value)
            if len(self._decoded) >= MAX_DECODED:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[key] = record
        return record

    def get(self, key: bytes) -> RegistryRecord | None:
        """Return the record of a registered key, None if it is not registered."""
        record = self.current(key)
        return None if record is None or record.removed else record

    def registered(self, kind: str, after: str = "") -> Iterator[RegistryRecord]:
        """Iterate over the registered entities of a kind in the order of their ids, after id
        `after`.

        The state must not change during the iteration.
        """
        first, last = entity_key(kind, after), kind.encode() + b";"  # the character after `:`
        for key in self._registered.irange(first, last, inclusive=(False, False)):
            yield decode_record(self._values[key])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over all keys and encoded records, including removals.

        The state must not change during the iteration.
        """
        return iter(self._values.items())

    def count(self, kind: str) -> int:
        """Return the number of registered entities of a kind."""
        return self._counts[kind]

    def count_clients(self, type: str) -> int:
        """Return the number of registered clients of a type."""
        return self._client_types[type]

    def count_headends(self, cluster_id: str) -> int:
        """Return the number of registered headends of a cluster."""
        return self._cluster_sizes[cluster_id]

    def count_label_values(self, label: str) -> int:
        """Return the number of different values of one of CLUSTER_LABELS among the clusters."""
        return len(self._label_values[label])

    def has_label_value(self, label: str, value: str) -> bool:
        """Return whether a registered cluster has this value for one of CLUSTER_LABELS."""
        return value in self._label_values[label]

    def expired_keys(self, now: int) -> list[bytes]:
        """Return the keys whose records may be deleted at `now` (milliseconds since the epoch)."""
        return [key for key, end in self._expires_at_ms.items() if end <= now]

    def _apply_tombstone(
        self, key: bytes, current: RegistryRecord | None, revision: int | None
    ) -> ApplyResult:
        if current is None:
            return ApplyResult.CURRENT
        if revision is not None and (revision != current.revision or current.expires_at_ms is None):
            return ApplyResult.SUPERSEDED
        del self._values[key]
        self._decoded.pop(key, None)
        self._update_counts(key, current, None)
        return ApplyResult.CURRENT

    def _update_counts(
        self, key: bytes, before: RegistryRecord | None, after: RegistryRecord | None
    ) -> None:
        was = before is not None and not before.removed
        is_ = after is not None and not after.removed
        if was and not is_:
            self._registered.remove(key)
        elif is_ and not was:
            self._registered.add(key)
        if before is not None and was:
            self._add_to_counts(before, -1)
        if after is not None and is_:
            self._add_to_counts(after, +1)
        if after is not None and after.expires_at_ms is not None:
            self._expires_at_ms[key] = after.expires_at_ms
        else:
            self._expires_at_ms.pop(key, None)
        self._notify(key, after)

    def _notify(self, key: bytes, record: RegistryRecord | None) -> None:
        for listener in self._listeners:
            listener(key, record)

    def _add_to_counts(self, record: RegistryRecord, step: int) -> None:
        self._counts[record.kind] += step
        if record.kind == CLIENT.name:
            self._client_types[record.attributes.get("type", "")] += step
        elif record.kind == HEADEND.name:
            self._cluster_sizes[record.attributes.get("cluster_id", "")] += step
        elif record.kind == CLUSTER:
            for label, values in self._label_values.items():
                value = record.attributes.get(label, "")
                values[value] += step
                if not values[value]:
                    del values[value]
