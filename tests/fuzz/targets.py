"""The fuzz targets: each takes any bytes, and fails if a guarantee about them is broken.

A function that returns has found nothing; only documented exceptions are caught.
"""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contract.dead_letter import DeadLetterError, decode_source, encode_source
from contract.evidence import (
    EvidenceError,
    decode_evidence,
    encode_evidence,
    parse_evidence_key,
)
from contract.frame import Frame, FrameError, decode_frame, encode_frame, encode_frame_parts
from contract.kinds import KINDS
from contract.ledger import decode_ledger_offset, decode_ledger_row, encode_ledger_row
from contract.position import Receipt
from contract.registry import RegistryError, decode_record, encode_record
from contract.row import (
    RowError,
    decode_entity_row,
    decode_position,
    decode_row_position,
    encode_position,
    encode_row,
)
from exporter.state.store import StateStore
from gateway.body.arrays import TooManyElementsError, split_array
from gateway.body.compression import decompress_sync
from gateway.body.json import BodyError
from gateway.ingest.backfill import BackfillDecoder
from gateway.ingest.batch_decoder import BatchDecoder, Item, split_lines
from gateway.ingest.decoder import BodyDecoder
from gateway.ingest.encoder import SubmissionTemplate, TemplateCache
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from service.compression import CODINGS, DecompressedTooLargeError
from tests.fuzz.connection import FuzzedServer
from tests.fuzz.gateway import Offline

Target = Callable[[bytes], None]

NOW = 1_700_000_000
LIMIT = 100_000
"""Maximum size of a decompressed body in bytes."""
PARTITIONS = 1


@functools.cache
def _offline() -> Offline:
    return Offline(Path(tempfile.mkdtemp(prefix="fuzz-")))


@functools.cache
def _server() -> FuzzedServer:
    return FuzzedServer(_offline())


@functools.cache
def _backlogs(kind: str) -> BackfillDecoder:
    return BackfillDecoder(KINDS[kind], BodyDecoder(KINDS[kind]))


@functools.cache
def _bodies(kind: str) -> BodyDecoder:
    return BodyDecoder(KINDS[kind])


@functools.cache
def _items() -> BatchDecoder:
    return BatchDecoder()


@functools.cache
def _envelopes() -> TemplateCache:
    return TemplateCache(_offline().registry.state, PARTITIONS)


def frame(data: bytes) -> None:
    """A frame is decoded and encodes to an equal frame, or raises FrameError."""
    try:
        found = decode_frame(data)
    except FrameError:
        return
    assert decode_frame(encode_frame(found.deadline_ms, found.submissions)) == found


def reduced(data: bytes) -> None:
    """Whatever the topic contains, the reducer continues, the ledger balances, and rows are
    exported."""
    state = PartitionState(0)
    batch = WriteBatch(state)
    for offset in range(2):
        reduce_frame(batch, Record(0, offset, NOW * 1000, data), PARTITIONS)
    assert batch.ledger.balances
    assert batch.ledger.offset == 1
    batch.commit()
    store = StateStore(range(PARTITIONS))
    for key, value in state.rows.items():
        with contextlib.suppress(RowError):
            store.apply(0, key, value)
    for sheet in store.snapshot():
        for families in sheet:
            b"".join(families).decode()


def row(data: bytes) -> None:
    """Rows, ledgers, positions and registry records: the same check."""
    with contextlib.suppress(RowError):
        found = decode_entity_row(data)
        assert decode_entity_row(encode_row(found)) == found
    with contextlib.suppress(RowError):
        ledger = decode_ledger_row(data)
        assert decode_ledger_row(encode_ledger_row(ledger)) == ledger
    with contextlib.suppress(RegistryError):
        record = decode_record(data)
        assert decode_record(encode_record(record)) == record
    with contextlib.suppress(RowError):
        position = decode_position(data)
        assert decode_position(encode_position(position)) == position
    with contextlib.suppress(RowError):
        decode_row_position(data)
    decode_ledger_offset(data)


def evidence(data: bytes) -> None:
    """A record of the evidence topic: key and value, separated by a line feed."""
    key, _, value = data.partition(b"\n")
    with contextlib.suppress(EvidenceError):
        assert parse_evidence_key(key)[0]
    with contextlib.suppress(EvidenceError):
        found = decode_evidence(key, value)
        assert found.key == key
        assert decode_evidence(key, encode_evidence(found)) == found
        assert parse_evidence_key(key) == (found.entity, found.writer, found.reason)


def header(data: bytes) -> None:
    """Dead-letter headers, and receipts."""
    names = ("reason", "offset", "index", "appended", "truncated-from")
    with contextlib.suppress(DeadLetterError):
        source = decode_source(zip(names, data.split(b"\n"), strict=False))
        assert decode_source(encode_source(source)) == source
    text = data.decode("latin-1")
    with contextlib.suppress(ValueError):
        receipt = Receipt.parse(text)
        assert Receipt.parse(str(receipt)) == receipt


def submission(data: bytes) -> None:
    """A submission or backlog of each kind: accepted values are in the frame.

    The fast path and the field-by-field decoder give the same result.
    """
    for kind in KINDS.values():
        template = _envelope(kind.name)
        try:
            found = _backlogs(kind.name).decode(data, NOW)
            bodies = list(found) if isinstance(found, Iterator) else [found]
            pieces = [_piece(template, body) for body in bodies]
        except BodyError:
            pieces = []
        for piece in pieces:
            (sent,) = _framed(piece).submissions
            assert (sent.kind, sent.id) == (kind.name, kind.name[0])
            assert sent.metrics.keys() <= {metric.field for metric in kind.metrics}
            assert all(0 <= value <= 2**63 for value in sent.metrics.values())
        if b'"samples"' not in data:
            with contextlib.suppress(BodyError):
                slow = template.encode_parsed(_bodies(kind.name).decode_field_by_field(data, NOW))
                assert _framed(slow) == _framed(*pieces), "the two decoders differ"
                continue
            assert not pieces, "the fast path accepts what the other decoder rejects"


def batch(data: bytes) -> None:
    """A batch as an array and as lines: each item is accepted, or its error is reported.

    Decoding in one call and item by item accept the same items.
    """
    decoder = _items()
    for decode, split in (
        (decoder.decode_array, split_array),
        (decoder.decode_lines, split_lines),
    ):
        try:
            items = [item for item in decode(data, NOW) if item is not None]
        except (BodyError, TooManyElementsError):
            continue
        each = [item for item in decoder.decode_each(split, data, NOW) if item is not None]
        for item, alone in zip(items, each, strict=True):
            assert (item.kind, item.id, item.fault) == (alone.kind, alone.id, alone.fault)
            if not item.fault:
                assert item.id is not None
                assert _encoded(item) == _encoded(alone), "the two decoders differ"


def _encoded(item: Item) -> Frame | None:
    """Return the submission of an item, None if types alone cannot show that it is invalid."""
    try:
        return _framed(_piece(_envelope(item.kind), item.body or item))
    except BodyError:
        return None


def packed(data: bytes) -> None:
    """A compressed body never exceeds its limit, and is either valid or damaged."""
    for coding in CODINGS:
        with contextlib.suppress(BodyError, DecompressedTooLargeError):
            assert len(decompress_sync(coding, data, LIMIT)) <= LIMIT


def request(data: bytes) -> None:
    """Each request of a connection gets one response in order, and no 5xx."""
    _server().connect(data)


def _piece(template: SubmissionTemplate, body: Any) -> bytes:
    return template.encode(body, NOW)


def _framed(*pieces: bytes) -> Frame:
    return decode_frame(encode_frame_parts(NOW, pieces))


def _envelope(kind: str) -> SubmissionTemplate:
    template = _envelopes().find(kind, kind[0])
    assert template is not None
    return template


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (frame, reduced, row, evidence, header, submission, batch, packed, request)
}
