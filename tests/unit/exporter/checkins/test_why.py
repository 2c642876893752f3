"""Verdicts, from the evidence."""

from typing import Any

import pytest

from contract.audit import ChangeOutcome
from contract.evidence import EvidenceReason
from contract.position import Receipt
from exporter.checkins.documents import Document, moment
from exporter.checkins.evidence import Reported
from exporter.checkins.lookup import Change, Findings, Letter
from exporter.checkins.why import Known, explain

NOW = 1_780_000_000
LAST = NOW - 40_000
NETWORK = "192.0.2.0/24"
RECEIPT = Receipt(0, 7, 1, NOW * 1000)


def entity(last: float | None = LAST, state: str = "offline", **more: Any) -> Document:
    known = {"state": state, "registered": True, "expired": False, "receipt": "0-1-2"}
    return {**known, "last_check_in": moment(last), **more}


def reported(reason: EvidenceReason, age: int = 60, **details: Any) -> Reported:
    at = (NOW - age) * 1000
    texts = {"network": "", "detail": "", "receipt": ""} | details
    return Reported(reason, 3, at - 500_000, at, **texts)


def change(action: str, age: int = 60) -> Change:
    return Change(NOW - age, action, ChangeOutcome.ALLOWED, "", "admin", "203.0.113.9")


def known(document: Document | None, *found: Any, **more: Any) -> Known:
    changes = [each for each in found if isinstance(each, Change)]
    letters = [each for each in found if isinstance(each, Letter)]
    told = [each for each in found if isinstance(each, Reported)]
    return Known(document, False, Findings(changes, letters), told, more.pop("late", 0.0), **more)


UNAUTHORIZED = reported(EvidenceReason.UNAUTHORIZED, network=NETWORK)
LETTER = Letter(NOW - 90, "too large", RECEIPT)


@pytest.mark.parametrize(
    ("verdict", "given"),
    [
        ("never_registered", known(None)),
        ("removed", known(None, change("remove"))),
        ("online", known(entity(NOW - 1, "online"), UNAUTHORIZED)),
        ("pipeline_late", known(entity(), UNAUTHORIZED, late=30.0)),
        ("never_reported", known(entity(None, "never"))),
        ("silent", known(entity())),
        ("expired", known(entity(expired=True))),
        ("credential_changed", known(entity(), change("rotate-key"))),
        ("refused", known(entity(), UNAUTHORIZED)),
        ("refused", known(entity(None, "never"), UNAUTHORIZED)),
        ("refused", known(entity(expired=True), UNAUTHORIZED)),
        ("refused", known(entity(), reported(EvidenceReason.INVALID))),
        ("refused", known(entity(), reported(EvidenceReason.TOO_LARGE))),
        ("refused", known(entity(), reported(EvidenceReason.UNSUPPORTED))),
        ("refused", known(entity(), reported(EvidenceReason.RATE_LIMITED))),
        ("refused", known(entity(), reported(EvidenceReason.OUT_OF_SCOPE))),
        ("stale", known(entity(), reported(EvidenceReason.STALE))),
        ("late", known(entity(), reported(EvidenceReason.LATE))),
        ("dead_lettered", known(entity(), reported(EvidenceReason.DEAD_LETTERED))),
        ("dead_lettered", known(entity(), LETTER)),
    ],
)
def test_each_verdict(verdict: str, given: Known) -> None:
    why = explain("client", "a", given)
    assert why["verdict"] == verdict
    assert why["text"].endswith(".")
    assert why["next_step"]
    assert "tobogganing" not in "".join(why["next_step"].split("`")[::2]), "commands are marked"


def test_what_is_older_than_the_last_check_in_explains_nothing() -> None:
    old = reported(EvidenceReason.INVALID, 50_000), reported(EvidenceReason.STALE, 45_000)
    assert explain("client", "a", known(entity(), *old))["verdict"] == "silent"


def test_wrong_keys_of_somebody_do_not_hide_what_the_entity_does() -> None:
    guessing = reported(EvidenceReason.UNAUTHORIZED, 1, network=NETWORK)
    invalid = reported(EvidenceReason.INVALID, 3000, detail="timestamp: is missing")
    why = explain("client", "a", known(entity(), guessing, invalid))
    assert "timestamp: is missing" in why["text"]
    earlier = reported(EvidenceReason.INVALID, 4000)
    why = explain("client", "a", known(entity(), guessing, earlier))
    assert NETWORK in why["text"]


def test_a_wrong_key_after_a_rotation_is_probably_the_old_one() -> None:
    why = explain("client", "a", known(entity(), change("rotate-key", 90), UNAUTHORIZED))
    assert "probably the agent with the old one" in why["text"]


def test_evidence_is_in_the_order_of_time_and_has_counts() -> None:
    letter = Letter(NOW - 30, "too large", RECEIPT)
    same = reported(EvidenceReason.DEAD_LETTERED, 30, receipt=str(RECEIPT))
    given = known(entity(), UNAUTHORIZED, change("register", 90_000), letter, same)
    evidence = explain("client", "a", given)["evidence"]
    assert [each["what"] for each in evidence] == [
        *("register", "last_check_in", "unauthorized", "dead_letter")
    ]
    refused = evidence[2]
    assert (refused["count"], refused["network"]) == (3, NETWORK)
    assert refused["first_at"] < refused["at"]
    assert evidence[3]["receipt"] == str(RECEIPT)


def test_only_administrators_see_who_made_a_change() -> None:
    given = known(entity(), change("rotate-key"))
    assert "admin" not in str(explain("client", "a", given))
    assert "203.0.113.9" not in str(explain("client", "a", given))
    shown = explain("client", "a", given, with_actors=True)["evidence"][-1]
    assert (shown["actor"], shown["address"]) == ("admin", "203.0.113.9")


def test_submissions_in_flight_are_counted_while_the_pipeline_is_late() -> None:
    evidence = explain("client", "a", known(entity(), late=30.0, waiting=7))["evidence"]
    assert evidence[-1]["what"] == "in_flight"
    assert "7 records" in evidence[-1]["text"]
    assert explain("client", "a", known(entity(), waiting=7))["evidence"][-1]["what"] != "in_flight"
