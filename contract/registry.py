"""The registry: who is known, kept in one compacted topic with one record for each key.

Writers are optimistic. Every change carries the next revision of what it was made from; of several
records with the same revision the first in the topic is the change, the others are superseded and
their writers answer 409. Whoever finds a superseded record last of its key appends a copy of the
current one (with the next revision), since compaction keeps the last.

A removal is a change like any other: it leaves a record that says so, until nobody can still hold
what was removed. Only then a tombstone follows, which names the revision that it removes.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec
from sortedcontainers import SortedList

from contract.frame import entity_key
from contract.kinds import CLIENT, HEADEND, EntityKind

RECORD_VERSION = 1
"""What is written here. Read is every version up to it: a new one must take in those before it."""
CLUSTER = "cluster"
"""Kind of a registry record that is no reporting entity: headends belong to clusters."""
RELAY = "relay"
"""Kind of who submits for others."""
SIGNING_KEY = "signing-key"
"""Kind of a record that holds a public key of tokens; its id is the `kid`."""
REVOCATION = "revocation"
"""Kind of a record that revokes one token; its id is the token's `jti`."""
ENROLMENT = "enrolment"
"""Kind of a record that lets agents register themselves (contract.enrolment)."""

CLUSTER_LABELS = tuple(
    label.name for label in HEADEND.labels if label.registered and not label.submitted
)
"""Labels whose values are free text that a cluster's registration names; its headends have them."""

MAX_DECODED = 20_000
"""Records that are also kept decoded, about 15 MB: those that were asked for last."""

REVISION_HEADER = "revision"
"""Header of a tombstone: the revision that it removes, in decimal."""


class RegistryRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """One registered client, headend, cluster or relay; one enrolment, signing key, revoked token.

    `incarnation` is the incarnation: a number that no other registration has, greater than those of
    the same id before it. Its writer makes it of the cluster's time. (An offset would be given
    again where the topic loses its tail or is created again.) A record that lacks it is the first
    one of a registration by an older version, whose incarnation is the offset of that record.

    `api_keys` are hexadecimal SHA-256 digests; `expiring_keys` are such digests with the time at
    which
    each ends to be valid. `token_epoch` counts how often all tokens of the node were revoked: a
    token
    names the count at which it was issued. `attributes` holds what else the kind has: `type` of a
    client; `cluster_id`, `region`, `datacenter` of a headend. A record with `expires_at_ms` may be
    dropped from then on. Times are in milliseconds since the epoch, by the brokers' clocks.
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

    def label(self, name: str) -> str:
        """Return the registered value of a label."""
        return self.name if name == "name" else self.attributes[name]

    def valid_keys(self, now: int) -> list[str]:
        """Digests of the API keys that are valid at `now`."""
        if not self.expiring_keys:
            return self.api_keys
        return self.api_keys + [digest for digest, end in self.expiring_keys.items() if now < end]


def registered_labels(
    kind: EntityKind, record: RegistryRecord
) -> tuple[dict[str, str], dict[str, str]]:
    """Split a record's labels into those that always hold and those that an agent may override."""
    registered = [label for label in kind.labels if label.registered]
    firm = {label.name: record.label(label.name) for label in registered if not label.submitted}
    soft = {label.name: record.label(label.name) for label in registered if label.submitted}
    return firm, soft


def hash_api_key(api_key: str) -> str:
    """Digest under which a key is kept: keys are 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


class RegistryError(ValueError):
    """A record of the registry topic that this code cannot read."""


class RegistryVersionError(RegistryError):
    """It is of a version that is not known here: whoever wrote it can read it."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RegistryRecord)


def encode_record(record: RegistryRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(value: bytes) -> RegistryRecord:
    """Decode a registry record.

    Raises:
        RegistryVersionError: it is one of a version that this code does not know.
        RegistryError: it is none.
    """
    try:
        record = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RegistryError(f"not a registry record: {error}") from error
    if not 1 <= record.version <= RECORD_VERSION:
        raise RegistryVersionError(f"registry record version {record.version} is not known here")
    return record


def encode_revision(revision: int) -> bytes:
    """Encode a tombstone's revision header."""
    return str(revision).encode()


def decode_revision(header: bytes) -> int:
    """Decode a tombstone's revision header.

    Raises:
        RegistryError: it is none.
    """
    if not (header.isdigit() and len(header) <= 18):
        raise RegistryError(f"not a revision: {header!r}")
    return int(header)


class ApplyResult(Enum):
    """What became of a registry record."""

    CURRENT = "current"
    SUPERSEDED = "superseded"


class RegistryState:
    """What the registry topic says so far: the current record of each key.

    Records are kept encoded, as a fleet of a million would fill a gigabyte with objects. Nobody
    changes one that he was given: as long as it is current, another may be given the same.
    """

    def __init__(self) -> None:
        self.on_changed: Callable[[bytes], None] | None = None
        """Is told the key of each record that is no longer as it was."""
        self._begin()

    def clear(self) -> None:
        """Forget all records."""
        keys = list(self._values)
        self._begin()
        if self.on_changed is not None:
            for key in keys:
                self.on_changed(key)

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
        """Take the next record of the topic, in the topic's order.

        A reader that comes after compaction may not find the record that a change was made from,
        so a revision counts when it is higher, not only when it is the next one. `revision` is
        that of a tombstone, which removes nothing but what has an `expires_at_ms`: a late one may
        meet a
        registration that began anew and has come to the same revision. One without (nobody here
        writes such) removes whatever there is.

        Raises:
            RegistryError: the record cannot be read; the state is as before.
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
        """Return the current record of a key as it is kept: the same object until it changes."""
        return self._values.get(key)

    def current(self, key: bytes) -> RegistryRecord | None:
        """Return the current record of a key, also one that says that it was removed."""
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
        """Return the record of what is registered under a key."""
        record = self.current(key)
        return None if record is None or record.removed else record

    def registered(self, kind: str, after: str = "") -> Iterator[RegistryRecord]:
        """Iterate over what is registered of a kind, by id, from behind the id `after`.

        The state must not change meanwhile.
        """
        first, last = entity_key(kind, after), kind.encode() + b";"  # the character behind `:`
        for key in self._registered.irange(first, last, inclusive=(False, False)):
            yield _decoder.decode(self._values[key])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the key and the encoded record of everything, also of what was removed.

        The state must not change meanwhile.
        """
        return iter(self._values.items())

    def count(self, kind: str) -> int:
        """Number of what is registered of a kind."""
        return self._counts[kind]

    def count_clients(self, type: str) -> int:
        """Number of registered clients of a type."""
        return self._client_types[type]

    def count_headends(self, cluster_id: str) -> int:
        """Number of registered headends of a cluster."""
        return self._cluster_sizes[cluster_id]

    def count_label_values(self, label: str) -> int:
        """Number of different values that one of CLUSTER_LABELS has among the clusters."""
        return len(self._label_values[label])

    def has_label_value(self, label: str, value: str) -> bool:
        """Whether a registered cluster has this value for one of CLUSTER_LABELS."""
        return value in self._label_values[label]

    def expired_keys(self, now: int) -> list[bytes]:
        """Keys whose records may be dropped at `now`, in milliseconds since the epoch."""
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
        if self.on_changed is not None:
            self.on_changed(key)

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
