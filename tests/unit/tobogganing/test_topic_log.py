"""Records of the audit and anomaly topics as documents."""

import pytest
from aiokafka import ConsumerRecord

from tests.unit.invalid_json import invalid_json
from tobogganing.topic_log import anomaly_document, audit_document


@pytest.mark.parametrize("value", [None, *invalid_json()])
def test_what_cannot_be_decoded_is_left_out(value: bytes | None) -> None:
    record = ConsumerRecord("t", 0, 0, 0, 0, None, value, None, 0, 0, ())
    assert audit_document(record) is None
    assert anomaly_document(record) is None
