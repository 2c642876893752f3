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

from contract.frame import Submission, encode_submission, partition_of
from contract.kinds import KINDS, EntityKind
from contract.registry import RegistryRecord, registered_labels
from gateway.bodies import Body, Plain, labels_of, timestamp_of

MAX_ENVELOPES = 20_000
"""Envelopes that are kept: about 20 MB."""

_encode = msgspec.json.Encoder().encode


class Envelope:
    """The envelope of one record's submissions."""

    __slots__ = ("_sent", "_shape", "_start", "partition", "record")

    def __init__(self, shape: "_Shape", record: RegistryRecord, partitions: int) -> None:
        self.record = record
        self.partition = partition_of(record.key, partitions)
        self._shape = shape
        self._sent: Any = None
        """Values of the labels that the agent sent last, for which `_start` is made."""
        self._start = b""

    def around(self, body: Body) -> bytes:
        """Encode a submission, as contract.frame.join_frame takes it."""
        start = self._shape.start(self.record, body.labels)
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
            self._start = shape.start(self.record, labels_of(shape.submitted, plain))
            self._sent = sent
        metrics = plain.metrics
        for field in shape.floats:
            if getattr(metrics, field) == 0:
                setattr(metrics, field, 0.0)  # of -0.0 too
        if plain.timestamp is UNSET:
            return b"".join((self._start, _encode(metrics), b"}"))
        timestamp = _encode(timestamp_of(plain, now))
        return b'%b%b,"timestamp":%b}' % (self._start, _encode(metrics), timestamp)


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
        self.floats = [metric.field for metric in kind.metrics if metric.type == "float"]

    def start(self, record: RegistryRecord, labels: dict[str, str]) -> bytes:
        """A submission up to its metrics."""
        assert record.generation is not None, "a record that was read has a generation"
        firm, soft = registered_labels(self._kind, record)
        submission = Submission(
            kind=record.kind,
            id=record.id,
            generation=record.generation,
            labels=firm | labels,
            fallback=self._defaults | soft,
        )
        return encode_submission(submission).removesuffix(b"}") + b',"metrics":'


class Envelopes:
    """The envelopes of those that submit."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        # By identity: a record that changes is another one, and the registry keeps those of whom
        # one hears. An envelope holds its record, so no other can have its identity.
        self._known: dict[int, Envelope] = {}

    def of(self, record: RegistryRecord) -> Envelope:
        envelope = self._known.get(id(record))
        if envelope is None:
            if len(self._known) >= MAX_ENVELOPES:
                self._known.clear()
            envelope = Envelope(_SHAPES[record.kind], record, self._partitions)
            self._known[id(record)] = envelope
        return envelope


_SHAPES = {kind.name: _Shape(kind) for kind in KINDS.values()}
