"""Envelopes: what stands around the metrics in every submission of a registered entity.

Who it is, of which registration, and its labels: the same bytes each time, until the registry or
the agent says otherwise. They are kept for those that submit, so that a submission costs joining
three pieces instead of encoding a document.
"""

import operator
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from contract.frame import Submission, encode_submission, entity_key, partition_of
from contract.kinds import KINDS, EntityKind
from contract.registry import (
    RegistryRecord,
    RegistryState,
    decode_record,
    encode_record,
    registered_labels,
)
from gateway.bodies import Body, Plain, labels_of, timestamp_of

MAX_ENVELOPES = 1_000_000
"""Envelopes that are kept: about 440 MB, if so many submit to one gateway."""

_encode = msgspec.json.Encoder().encode

MINUS = ord("-")


class Envelope(msgspec.Struct, gc=False):
    """The envelope of one record's submissions.

    It keeps the record encoded: a million that are decoded would fill a gigabyte.
    """

    partition: int
    _shape: "_Shape"
    _record: bytes
    _sent: Any = None
    """Values of the labels that the agent sent last, for which `_start` is made."""
    _start: bytes = b""

    def around(self, body: Body) -> bytes:
        """Encode a submission, as contract.frame.join_frame takes it."""
        start = self._shape.start(self._record, body.labels)
        metrics = _encode(body.metrics)
        if body.timestamp is None:
            return b"".join((start, metrics, b"}"))
        return b'%b%b,"timestamp":%b}' % (start, metrics, _encode(body.timestamp))

    def around_plain(self, plain: Plain, now: float) -> bytes:
        """The same for a plain body; `now` is in seconds since the epoch.

        Raises:
            BodyError: what its types cannot tell.
        """
        shape = self._shape
        sent = shape.labels(plain)
        if sent != self._sent:
            self._start = shape.start(self._record, labels_of(shape.submitted, plain))
            self._sent = sent
        metrics = _encode(plain.metrics)
        if MINUS in metrics:
            metrics = shape.encode_unsigned(plain.metrics)
        if plain.timestamp is UNSET:
            return b"".join((self._start, metrics, b"}"))
        return b'%b%b,"timestamp":%b}' % (
            self._start,
            metrics,
            _encode(timestamp_of(plain, now)),
        )


class _Shape:
    """What the envelopes of a kind have in common."""

    def __init__(self, kind: EntityKind) -> None:
        self._kind = kind
        self._defaults = {
            label.name: label.default
            for label in kind.labels
            if label.submitted and not label.registered
        }
        self.submitted = [label for label in kind.labels if label.submitted]
        self.labels: Callable[[Any], Any] = operator.attrgetter(
            *(label.field for label in self.submitted)
        )
        self._floats = [metric.field for metric in kind.metrics if metric.type == "float"]

    def encode_unsigned(self, metrics: Any) -> bytes:
        """Encode plain metrics in which a zero has no sign."""
        for field in self._floats:
            if getattr(metrics, field) == 0:
                setattr(metrics, field, 0.0)  # of -0.0 too
        return _encode(metrics)

    def start(self, encoded: bytes, labels: dict[str, str]) -> bytes:
        """A submission up to its metrics."""
        record = decode_record(encoded)
        assert record.generation is not None, "a record that was read has a generation"
        firm, soft = registered_labels(self._kind, record)
        fallback = self._defaults | soft
        submission = Submission(
            kind=record.kind,
            id=record.id,
            generation=record.generation,
            labels=firm | labels,
            fallback={name: fallback[name] for name in fallback.keys() - labels.keys()},
        )
        return encode_submission(submission).removesuffix(b"}") + b',"metrics":'


class Envelopes:
    """The envelopes of those that submit, until the registry says something else of them."""

    def __init__(self, state: RegistryState, partitions: int) -> None:
        self._state = state
        self._partitions = partitions
        self._known: dict[str, dict[str, Envelope]] = {name: {} for name in KINDS}
        state.changed = self._forget

    def find(self, kind: str, id: str) -> Envelope | None:
        """Return the envelope of an entity, None if it is not registered."""
        envelope = self._known[kind].get(id)
        if envelope is None:
            key = entity_key(kind, id)
            record = self._state.encoded(key)
            if record is None or self._state.get(key) is None:
                return None
            envelope = self._keep(kind, id, self._make(kind, key, record))
        return envelope

    def of(self, record: RegistryRecord) -> Envelope:
        """Return the envelope of an entity that was registered when its request came."""
        found = self.find(record.kind, record.id)
        if found is None:  # it was removed meanwhile, so this is nothing to be kept
            return self._make(record.kind, record.key, encode_record(record))
        return found

    def _make(self, kind: str, key: bytes, record: bytes) -> Envelope:
        return Envelope(partition_of(key, self._partitions), _SHAPES[kind], record)

    def _keep(self, kind: str, id: str, envelope: Envelope) -> Envelope:
        known = self._known[kind]
        if len(known) >= MAX_ENVELOPES:
            del known[next(iter(known))]
        known[id] = envelope
        return envelope

    def _forget(self, key: bytes) -> None:
        kind, _, id = key.decode("utf-8", "replace").partition(":")
        if kind in self._known:
            self._known[kind].pop(id, None)


_SHAPES = {kind.name: _Shape(kind) for kind in KINDS.values()}
