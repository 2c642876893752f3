"""The registry: known entities and keys, in one compacted topic with one record per key.

Writes use optimistic concurrency. Every change carries the revision that follows the one it was
made from. Of several records with the same revision, the first in the topic wins; the others are
superseded, and their writers respond 409. A reader that finds a superseded record as the last of
its key appends a copy of the current one with the next revision, because compaction keeps the last
record.

A removal is a change, too: it leaves a record with `removed` until no reader can still have the old
record. Then a tombstone follows, which names the revision that it removes.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec
from sortedcontainers import SortedList

from contract.entity import entity_key
from contract.kinds import CLIENT, HEADEND, EntityKind

RECORD_VERSION = 1
"""The version that is written. All versions up to it are read, so a new version must accept the
older ones."""
CLUSTER = "cluster"
"""Kind of a cluster, which does not report metrics; headends belong to clusters."""
RELAY = "relay"
"""Kind of a relay, which submits for other entities."""
SIGNING_KEY = "signing-key"
"""Kind of a public key that verifies tokens; its id is the `kid`."""
REVOCATION = "revocation"
"""Kind of the revocation of one token; its id is the token's `jti`."""
ENROLMENT = "enrolment"
"""Kind of a record that lets agents register themselves (contract.enrolment)."""

CLUSTER_LABELS = tuple(
    label.name for label in HEADEND.labels if label.registered and not label.submitted
)
"""Labels with free text that a cluster's registration sets and its headends inherit."""

MAX_DECODED = 20_000
"""Maximum number of decoded records in the cache, about 15 MB; the oldest is evicted."""

REVISION_HEADER = "revision"
"""Header of a tombstone: the revision that it removes, in decimal."""


INCARNATION_RANDOM_BITS = 11
"""Random low bits of an incarnation; the bits above are milliseconds since the epoch.

They distinguish registrations of the same millisecond. With 11 bits an incarnation is exact in
a double until the year 2109.
"""


class RegistryRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """A registered client, headend, cluster or relay; an enrolment; a signing key;
    or a revoked token.

    `incarnation` identifies a registration: it is unique, and greater than those of earlier
    registrations of the same id. The writer derives it from the cluster's time; an offset would
    repeat if the topic loses its end or is recreated. A record without it is the first one of a
    registration by an older version, whose incarnation is the record's offset.

    `api_keys` are hexadecimal SHA-256 digests. `expiring_keys` maps such digests to the time at
    which each expires. `token_epoch` counts how often all tokens of the node were revoked; a token
    carries the count at its issue. `attributes` has the kind's other values: `type` of a client;
    `cluster_id`, `region`, `datacenter` of a headend. From `expires_at_ms` on the record may be
    deleted. Times are in milliseconds since the epoch, broker time.
    """

    version: int
    kind: str
    id: str
    revision: int
    name: str
    attributes: dict[str, str] = {}
    api_keys: list[str] = []
    incarnation: int | None = msgspec.field(name="generation", default=None)
    expiring_keys: dict[str, int] = msgspec.field(name="retiring", default_factory=dict)
    token_epoch: int = msgspec.field(name="tokens", default=0)
    removed: bool = False
    expires_at_ms: int | None = msgspec.field(name="until", default=None)

    @property
    def key(self) -> bytes:
        return entity_key(self.kind, self.id)

    @property
    def registered_at_ms(self) -> int | None:
        """When the registration was made, in milliseconds; None for one by an older version, whose
        incarnation is an offset."""
        if self.incarnation is None or self.incarnation < 1 << 50:
            return None
        return self.incarnation >> INCARNATION_RANDOM_BITS

    def label(self, name: str) -> str:
        """Return the registered value of a label."""
        return self.name if name == "name" else self.attributes[name]

    def valid_keys(self, now: int) -> list[str]:
        """Return the digests of the API keys that are valid at `now`."""
        if not self.expiring_keys:
            return self.api_keys
        return self.api_keys + [digest for digest, end in self.expiring_keys.items() if now < end]


def registered_labels(
    kind: EntityKind, record: RegistryRecord
) -> tuple[dict[str, str], dict[str, str]]:
    """Split a record's labels into fixed ones and ones that an agent may override."""
    registered = [label for label in kind.labels if label.registered]
    fixed = {label.name: record.label(label.name) for label in registered if not label.submitted}
    overridable = {label.name: record.label(label.name) for label in registered if label.submitted}
    return fixed, overridable


def hash_api_key(api_key: str) -> str:
    """Return the digest of an API key. Keys have 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


class RegistryError(ValueError):
    """A record of the registry topic that cannot be decoded."""


class RegistryVersionError(RegistryError):
    """A record of an unsupported version, written by a newer program."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RegistryRecord)


def encode_record(record: RegistryRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(value: bytes) -> RegistryRecord:
    """Decode a registry record.

    Raises:
        RegistryVersionError: the version is not supported.
        RegistryError: the value is not a registry record.
    """
    try:
        record = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RegistryError(f"not a registry record: {error}") from error
    if not 1 <= record.version <= RECORD_VERSION:
        raise RegistryVersionError(f"registry record version {record.version} is not supported")
    return record


def encode_revision(revision: int) -> bytes:
    """Encode the revision header of a tombstone."""
    return str(revision).encode()


def decode_revision(header: bytes) -> int:
    """Decode the revision header of a tombstone.

    Raises:
        RegistryError: the header is not a revision.
    """
    if not (header.isdigit() and len(header) <= 18):
        raise RegistryError(f"not a revision: {header!r}")
    return int(header)


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
            record = _decoder.decode(value)
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
            yield _decoder.decode(self._values[key])

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
