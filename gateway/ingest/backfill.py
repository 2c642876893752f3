"""Backlogs: `{"samples": […]}`, the samples that an agent collected while it was offline.

Each sample becomes a submission with its own `timestamp`. All samples belong to one entity, so they
stay in order in one partition.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from contract.kinds import EntityKind
from gateway.body.arrays import MAX_ELEMENTS, TooManyElementsError, split_array
from gateway.body.json import BodyError, JsonDecoder
from gateway.ingest.decoder import BodyDecoder, ParsedBody
from gateway.ingest.schema import CanonicalBody, build_struct, label_fields

_SAMPLES_KEY = b'"samples"'
"""Contained in every backlog."""


class _Probe(msgspec.Struct):
    samples: Raw | UnsetType = UNSET
    metrics: Raw | UnsetType = UNSET


class BackfillDecoder:
    """Decodes the bodies of one kind: a backlog, or a single submission with `single`."""

    def __init__(self, kind: EntityKind, single: BodyDecoder) -> None:
        self._single = single
        self._probe = JsonDecoder(_Probe)
        self._decoder = JsonDecoder(
            msgspec.defstruct("Backlog", [("samples", Raw), *label_fields(kind)])
        )
        self._label_fields = [label.field for label in kind.labels if label.submitted]

    def decode(self, body: bytes, now: float) -> ParsedBody | CanonicalBody | Iterator[ParsedBody]:
        """Decode a body; for a backlog, return an iterator that decodes one sample at a time.

        `now` is in seconds since the epoch.

        Raises:
            BodyError: a field is not valid; also raised by the iterator.
        """
        if not may_be_backfill(body):
            return self._single.decode(body, now)
        probe = self._probe.decode(body)
        if probe.samples is UNSET:
            return self._single.decode(body, now)
        if probe.metrics is not UNSET:
            raise BodyError("metrics", "cannot be combined with samples")
        backlog: Any = self._decoder.decode(body)
        samples = _split_samples(bytes(backlog.samples))
        return self._samples(samples, self._labels(backlog, now), now)

    def _samples(
        self, samples: Sequence[Raw], labels: dict[str, str], now: float
    ) -> Iterator[ParsedBody]:
        for index, sample in enumerate(samples):
            yield self._sample(index, bytes(sample), labels, now)

    def _labels(self, backlog: Any, now: float) -> dict[str, str]:
        """Return the labels of samples that do not set their own."""
        given = {field: getattr(backlog, field) for field in self._label_fields}
        fields = {field: value for field, value in given.items() if value is not UNSET}
        return self._single.decode_field_by_field(
            msgspec.json.encode({"metrics": {}} | fields), now
        ).labels

    def _sample(self, index: int, sample: bytes, labels: dict[str, str], now: float) -> ParsedBody:
        try:
            body = self._single.decode_field_by_field(sample, now)
            if body.timestamp is None:
                raise BodyError("timestamp", "is missing")
        except BodyError as error:
            raise error.within(f"samples[{index}]") from error
        return body._replace(labels=labels | body.labels)


def _split_samples(content: bytes) -> Sequence[Raw]:
    try:
        samples = [*itertools.chain.from_iterable(split_array(content))]
    except BodyError as error:
        raise error.within("samples") from error
    except TooManyElementsError as error:
        raise BodyError("samples", f"contains more than {MAX_ELEMENTS:,} elements") from error
    if not samples:
        raise BodyError("samples", "must contain at least one element")
    return samples


def may_be_backfill(body: bytes) -> bool:
    """Return False if the body is certainly not a backlog; costs next to nothing."""
    return _SAMPLES_KEY in body


def build_backfill_struct(kind: EntityKind) -> type[msgspec.Struct]:
    """Build the struct of a kind's backlogs for the OpenAPI document."""
    sample = build_struct(kind, "Sample", timestamp_required=True)
    samples = Annotated[list[sample], Meta(min_length=1)]  # type: ignore[valid-type]
    return msgspec.defstruct(
        f"{kind.name.capitalize()}Backlog", [("samples", samples), *label_fields(kind)]
    )
