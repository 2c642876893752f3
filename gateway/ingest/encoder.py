"""Submission templates: what surrounds the metrics in every submission of a registered entity.

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
from gateway.ingest.decoder import ParsedBody, submitted_labels, validated_timestamp
from gateway.ingest.schema import CanonicalBody

MAX_TEMPLATES = 1_000_000
"""Templates that are kept: about 440 MB, if that many entities submit to one gateway."""

_encode_json = msgspec.json.Encoder().encode

MINUS_SIGN = ord("-")


class SubmissionTemplate(msgspec.Struct, gc=False):
    """The envelope of one record's submissions.

    It keeps the record encoded: a million that are decoded would fill a gigabyte.
    """

    partition: int
    _encoder: "KindEncoder" = msgspec.field(name="_shape")
    _record: bytes
    _last_labels: Any = msgspec.field(name="_sent", default=None)
    """Values of the labels that the agent sent last, for which `_prefix` is made."""
    _prefix: bytes = msgspec.field(name="_start", default=b"")

    def encode(self, body: ParsedBody) -> bytes:
        """Encode a submission, as contract.frame.encode_frame_parts takes it."""
        prefix = self._encoder.encode_prefix(self._record, body.labels)
        metrics = _encode_json(body.metrics)
        if body.timestamp is None:
            return b"".join((prefix, metrics, b"}"))
        return b'%b%b,"timestamp":%b}' % (prefix, metrics, _encode_json(body.timestamp))

    def encode_canonical(self, body: CanonicalBody, now: float) -> bytes:
        """The same for a plain body; `now` is in seconds since the epoch.

        Raises:
            BodyError: what its types cannot tell.
        """
        encoder = self._encoder
        label_values = encoder.label_values(body)
        if label_values != self._last_labels:
            self._prefix = encoder.encode_prefix(
                self._record, submitted_labels(encoder.submitted_labels, body)
            )
            self._last_labels = label_values
        metrics = _encode_json(body.metrics)
        if MINUS_SIGN in metrics:
            metrics = encoder.encode_unsigned(body.metrics)
        if body.timestamp is UNSET:
            return b"".join((self._prefix, metrics, b"}"))
        return b'%b%b,"timestamp":%b}' % (
            self._prefix,
            metrics,
            _encode_json(validated_timestamp(body, now)),
        )


class KindEncoder:
    """What the envelopes of a kind have in common."""

    def __init__(self, kind: EntityKind) -> None:
        self._kind = kind
        self._defaults = {
            label.name: label.default
            for label in kind.labels
            if label.submitted and not label.registered
        }
        self.submitted_labels = [label for label in kind.labels if label.submitted]
        fields = [label.field for label in self.submitted_labels]
        self.label_values: Callable[[Any], Any] = (
            operator.attrgetter(*fields) if fields else lambda _: ()
        )
        self._floats = [metric.field for metric in kind.metrics if metric.type == "float"]

    def encode_unsigned(self, metrics: Any) -> bytes:
        """Encode plain metrics in which a zero has no sign."""
        for field in self._floats:
            if getattr(metrics, field) == 0:
                setattr(metrics, field, 0.0)  # of -0.0 too
        return _encode_json(metrics)

    def encode_prefix(self, encoded: bytes, labels: dict[str, str]) -> bytes:
        """A submission up to its metrics."""
        record = decode_record(encoded)
        assert record.incarnation is not None, "a record that was read has a generation"
        fixed, overridable = registered_labels(self._kind, record)
        default_labels = self._defaults | overridable
        submission = Submission(
            kind=record.kind,
            id=record.id,
            incarnation=record.incarnation,
            labels=fixed | labels,
            default_labels={
                name: default_labels[name] for name in default_labels.keys() - labels.keys()
            },
        )
        return encode_submission(submission).removesuffix(b"}") + b',"metrics":'


class TemplateCache:
    """The envelopes of those that submit, until the registry says something else of them."""

    def __init__(self, state: RegistryState, partitions: int) -> None:
        self._state = state
        self._partitions = partitions
        self._templates: dict[str, dict[str, SubmissionTemplate]] = {name: {} for name in KINDS}
        state.on_changed = self._invalidate

    def find(self, kind: str, id: str) -> SubmissionTemplate | None:
        """Return the envelope of an entity, None if it is not registered."""
        template = self._templates[kind].get(id)
        if template is None:
            key = entity_key(kind, id)
            record = self._state.encoded(key)
            if record is None or self._state.get(key) is None:
                return None
            template = self._store(kind, id, self._build(kind, key, record))
        return template

    def get_or_build(self, record: RegistryRecord) -> SubmissionTemplate:
        """Return the envelope of an entity that was registered when its request came."""
        found = self.find(record.kind, record.id)
        if found is None:  # it was removed meanwhile, so this is nothing to be kept
            return self._build(record.kind, record.key, encode_record(record))
        return found

    def _build(self, kind: str, key: bytes, record: bytes) -> SubmissionTemplate:
        return SubmissionTemplate(partition_of(key, self._partitions), _ENCODERS[kind], record)

    def _store(self, kind: str, id: str, template: SubmissionTemplate) -> SubmissionTemplate:
        known = self._templates[kind]
        if len(known) >= MAX_TEMPLATES:
            del known[next(iter(known))]
        known[id] = template
        return template

    def _invalidate(self, key: bytes) -> None:
        kind, _, id = key.decode("utf-8", "replace").partition(":")
        if kind in self._templates:
            self._templates[kind].pop(id, None)


_ENCODERS = {kind.name: KindEncoder(kind) for kind in KINDS.values()}
