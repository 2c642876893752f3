"""The registry: who is known, kept in one compacted topic with one record per entity.

Writers are optimistic. Every change carries the next revision of what it was made from; of several
records with the same revision the first in the topic is the change, the others are superseded and
their writers answer 409. Whoever finds a superseded record last of its key appends a copy of the
current one (with the next revision), since compaction keeps the last.
"""

import hashlib
from enum import Enum

import msgspec

from contract.kinds import EntityKind

RECORD_VERSION = 1
CLUSTER = "cluster"
"""Kind of a registry record that is no reporting entity: headends belong to clusters."""


class RegistryRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """One registered client, headend or cluster.

    `generation` is the offset of the first record of this registration; that first record does
    not know it yet. `api_keys` are hexadecimal SHA-256 digests. `attributes` holds what else the
    kind has: `type` of a client; `cluster_id`, `region`, `datacenter` of a headend.
    """

    version: int
    kind: str
    id: str
    revision: int
    name: str
    attributes: dict[str, str] = {}
    api_keys: list[str] = []
    generation: int | None = None

    def label(self, name: str) -> str:
        """Return the registered value of a label."""
        return self.name if name == "name" else self.attributes[name]


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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RegistryRecord)


def encode_record(record: RegistryRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(value: bytes) -> RegistryRecord:
    """Decode a registry record.

    Raises:
        RegistryError: it is none, or one of a version that this code does not know.
    """
    try:
        record = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RegistryError(f"not a registry record: {error}") from error
    if record.version != RECORD_VERSION:
        raise RegistryError(f"registry record version {record.version} is not known here")
    return record


class Applied(Enum):
    """What became of a registry record."""

    CURRENT = "current"
    SUPERSEDED = "superseded"


class RegistryState:
    """What the registry topic says so far: the current record of each key."""

    def __init__(self) -> None:
        self._records: dict[bytes, RegistryRecord] = {}
        self._counts: dict[str, int] = {}

    def apply(self, offset: int, key: bytes, value: bytes | None) -> Applied:
        """Take the next record of the topic, in the topic's order.

        A reader that comes after compaction may not find the record that a change was made from,
        so a revision counts when it is higher, not only when it is the next one.

        Raises:
            RegistryError: the record cannot be read; the state is as before.
        """
        current = self._records.get(key)
        if value is None:
            if current is not None:
                del self._records[key]
                self._count(current.kind, -1)
            return Applied.CURRENT
        record = decode_record(value)
        if current is not None and record.revision <= current.revision:
            return Applied.SUPERSEDED
        if record.generation is None:
            record.generation = offset
        self._records[key] = record
        if current is None:
            self._count(record.kind, +1)
        return Applied.CURRENT

    def get(self, key: bytes) -> RegistryRecord | None:
        return self._records.get(key)

    def count(self, kind: str) -> int:
        """Number of registered entities of a kind."""
        return self._counts.get(kind, 0)

    def _count(self, kind: str, step: int) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + step
