"""Encodes submissions with a cached template per entity.

The id, incarnation and labels of an entity are encoded as the same bytes each time, until the
registry or the agent changes them. So a submission costs a join of three byte strings instead of
encoding a document.
"""

import operator
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_submission
from contract.kinds import KINDS, EntityKind
from contract.registry import RegistryRecord, decode_record, encode_record, registered_labels
from contract.registry_state import RegistryState
from gateway.ingest.decoder import ParsedBody, submitted_labels, validated_timestamp
from gateway.ingest.schema import CanonicalBody

MAX_TEMPLATES = 1_000_000
"""Maximum number of cached templates: about 440 MB per gateway."""

_encode_json = msgspec.json.Encoder().encode

MINUS_SIGN = ord("-")


class SubmissionTemplate(msgspec.Struct, gc=False):
    """The encoded parts of one entity's submissions.

    It keeps the record encoded, because a million decoded records take a gigabyte.
    """

    partition: int
    _encoder: "KindEncoder"
    _record: bytes
    _last_labels: Any = None
    """Label values of the last submission, for which `_prefix` was encoded."""
    _prefix: bytes = b""

    def encode(self, body: ParsedBody | CanonicalBody, now: float) -> bytes:
        """Encode a submission for contract.frame.encode_frame_parts; `now` is in seconds since the
        epoch.

        Raises:
            BodyError: the timestamp or a label of a canonical body is not valid.
        """
        if isinstance(body, ParsedBody):
            return self.encode_parsed(body)
        return self.encode_canonical(body, now)

    def encode_parsed(self, body: ParsedBody) -> bytes:
        prefix = self._encoder.encode_prefix(self._record, body.labels)
        metrics = _encode_json(body.metrics)
        if body.timestamp is None:
            return b"".join((prefix, metrics, b"}"))
        return b'%b%b,"timestamp":%b}' % (prefix, metrics, _encode_json(body.timestamp))

    def encode_canonical(self, body: CanonicalBody, now: float) -> bytes:
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
    """Encodes the submissions of one kind."""

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
        """Encode canonical metrics, with 0.0 in place of -0.0."""
        for field in self._floats:
            if getattr(metrics, field) == 0:
                setattr(metrics, field, 0.0)  # also converts -0.0
        return _encode_json(metrics)

    def encode_prefix(self, encoded: bytes, labels: dict[str, str]) -> bytes:
        """Encode a submission up to its metrics."""
        record = decode_record(encoded)
        assert record.incarnation is not None, "a record that was read has an incarnation"
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
    """The templates of the entities that submit, until their records change."""

    def __init__(self, state: RegistryState, partitions: int) -> None:
        self._state = state
        self._partitions = partitions
        self._templates: dict[str, dict[str, SubmissionTemplate]] = {name: {} for name in KINDS}
        state.add_listener(self._invalidate)

    def find(self, kind: str, id: str) -> SubmissionTemplate | None:
        """Return the template of an entity; None if it is not registered."""
        template = self._templates[kind].get(id)
        if template is None:
            key = entity_key(kind, id)
            record = self._state.encoded(key)
            if record is None or self._state.get(key) is None:
                return None
            template = self._store(kind, id, self._build(kind, key, record))
        return template

    def get_or_build(self, record: RegistryRecord) -> SubmissionTemplate:
        """Return the template of an entity that was registered when its request arrived."""
        found = self.find(record.kind, record.id)
        if found is None:  # removed during the request, so not cached
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

    def _invalidate(self, key: bytes, record: RegistryRecord | None) -> None:
        kind, _, id = key.decode("utf-8", "replace").partition(":")
        if kind in self._templates:
            self._templates[kind].pop(id, None)


_ENCODERS = {kind.name: KindEncoder(kind) for kind in KINDS.values()}
