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

import msgspec

from contract.decoding import DECODE_ERRORS
from contract.entity import entity_key
from contract.kinds import HEADEND, EntityKind

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
    except DECODE_ERRORS as error:
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
