"""What cannot be decoded raises only the exceptions that readers of the topics expect."""

from collections.abc import Callable

import msgspec
import pytest

from contract.anomaly import decode_anomaly
from contract.audit import decode_audit
from contract.decoding import DECODE_ERRORS
from contract.evidence import EvidenceError, decode_evidence
from contract.frame import FrameError, decode_frame
from contract.ledger import decode_ledger_row
from contract.registry import RegistryError, decode_record
from contract.row import RowError, decode_entity_row, decode_row_position
from contract.total import decode_total
from tests.unit.invalid_json import invalid_json


def test_a_decoder_raises_each_of_the_exceptions() -> None:
    raised = set()
    for value in invalid_json():
        with pytest.raises(DECODE_ERRORS) as caught:
            msgspec.json.decode(value)
        raised.add(caught.type)
    assert raised == set(DECODE_ERRORS)


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        (decode_anomaly, DECODE_ERRORS),
        (decode_audit, DECODE_ERRORS),
        (lambda value: decode_evidence(b"client:a|processor|stale", value), EvidenceError),
        (decode_frame, FrameError),
        (decode_ledger_row, RowError),
        (decode_record, RegistryError),
        (decode_entity_row, RowError),
        (decode_row_position, RowError),
        (decode_total, RowError),
    ],
)
@pytest.mark.parametrize("value", invalid_json(), ids=["syntax", "encoding", "depth"])
def test_records(
    decode: Callable[[bytes], object],
    expected: type[Exception] | tuple[type[Exception], ...],
    value: bytes,
) -> None:
    with pytest.raises(expected):
        decode(value)
