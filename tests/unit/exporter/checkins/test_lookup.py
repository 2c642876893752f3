"""Tests of exporter.checkins.lookup."""

import pytest
from aiokafka import ConsumerRecord

import exporter.checkins.lookup as lookup
from contract.audit import AUDIT_VERSION, REGISTRATIONS, AuditRecord, ChangeOutcome, encode_audit
from contract.dead_letter import DeadLetterSource, encode_source
from contract.frame import Submission, encode_submission
from service.compression import compress_zstd
from tests.unit.invalid_json import invalid_json


def letter(offset: int, id: str, *, is_compressed: bool) -> ConsumerRecord:
    value = encode_submission(Submission("client", id, 1, labels={"name": "x" * 1000}))
    packed = compress_zstd(value) if is_compressed else value
    source = DeadLetterSource("too large", offset, 0, 5000, is_compressed=is_compressed)
    headers = encode_source(source)
    return ConsumerRecord("t", 0, offset, 0, 0, None, packed, None, 0, 0, headers)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_letters_of_an_entity_are_found(is_compressed: bool) -> None:
    letters = lookup._Letters("client", "a")
    records = [letter(n, id, is_compressed=is_compressed) for n, id in enumerate(("b", "a"))]
    letters.apply(0, records)
    assert [str(each.receipt) for each in letters.found] == ["0-1-0-5000"]


def test_a_damaged_letter_is_skipped() -> None:
    damaged = letter(0, "a", is_compressed=True)
    damaged.value = damaged.value[:-3]
    letters = lookup._Letters("client", "a")
    letters.apply(0, [damaged, letter(1, "a", is_compressed=True)])
    assert len(letters.found) == 1


def test_a_change_of_many_is_found_by_each_of_their_ids() -> None:
    record = AuditRecord(
        AUDIT_VERSION,
        "r",
        "admin",
        "register-many",
        REGISTRATIONS,
        "127.0.0.1",
        ChangeOutcome.ALLOWED,
        {"client": "sim-1 sim-17", "headend": "h"},
    )
    value = encode_audit(record)
    found = {}
    for target in ("client:sim-17", "headend:h", "client:h", "client:sim"):
        changes = lookup._Changes(target)
        for each in (*invalid_json(target.partition(":")[2]), value):
            changes.apply(0, [ConsumerRecord("t", 0, 0, 0, 0, None, each, None, 0, 0, ())])
        found[target] = [each.action for each in changes.found.values()]
    assert found == {
        "client:sim-17": ["register-many"],
        "headend:h": ["register-many"],
        "client:h": [],
        "client:sim": [],
    }
