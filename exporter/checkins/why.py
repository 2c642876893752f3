"""Why an entity is silent: the evidence in order of time, a verdict, and the next step. Pure."""

from typing import NamedTuple

from contract.audit import ChangeOutcome
from contract.evidence import EvidenceReason
from exporter.checkins.documents import Document, moment
from exporter.checkins.evidence import Reported
from exporter.checkins.lookup import Findings
from exporter.checkins.why_items import evidence_items

_CREDENTIAL_ACTIONS = ("rotate-key", "revoke-tokens", "repeat-enrolment")
"""Actions that change an entity's credentials."""
_FROM_OTHERS = (EvidenceReason.UNAUTHORIZED, EvidenceReason.OUT_OF_SCOPE)
"""Reasons that anybody can cause, so they do not prove anything about the entity."""
OTHERS_HANDICAP_MS = 3_600_000
"""Milliseconds by which such evidence must be newer than the entity's own to decide."""


class Known(NamedTuple):
    """What the exporter knows of an entity.

    `document` is that of the entity, None if it is neither registered nor has a row;
    `removed_row`: its row says that it was removed. `waiting` is the number of records of its
    partition that are not applied yet.
    """

    document: Document | None
    removed_row: bool
    findings: Findings
    reported: list[Reported]
    seconds_late: float
    waiting: int = 0


class Verdict(NamedTuple):
    """A name, a sentence, and what to do next, with commands between backticks."""

    name: str
    text: str
    next_step: str


def explain(kind: str, id: str, known: Known, *, with_actors: bool = False) -> Document:
    """Return the evidence about an entity, a verdict, and what to do next.

    Who made a change, and from which address, is shown only `with_actors`.
    """
    changes, letters = known.findings
    evidence = evidence_items(changes, letters, known.reported, with_actors=with_actors)
    document = known.document
    if document is not None and document["last_check_in"] is not None:
        is_expired = document["expired"]
        evidence.append(
            {
                "at": document["last_check_in"],
                "what": "expired" if is_expired else "last_check_in",
                "text": "The last check-in before it expired"
                if is_expired
                else "The newest submission that was applied",
            }
            | ({} if is_expired else {"receipt": document["receipt"]})
        )
    evidence.sort(key=lambda each: each["at"] or "")
    if known.seconds_late and known.waiting:
        text = f"{known.waiting} records of its partition are accepted and not applied yet"
        evidence.append({"at": None, "what": "in_flight", "text": text})
    verdict = _verdict(kind, id, known)
    return {
        "kind": kind,
        "id": id,
        "state": None if document is None else document["state"],
        "verdict": verdict.name,
        "text": verdict.text,
        "next_step": verdict.next_step,
        "evidence": evidence,
    }


def _verdict(kind: str, id: str, known: Known) -> Verdict:
    document = known.document
    changed = [each for each in known.findings.changes if each.outcome is not ChangeOutcome.REFUSED]
    if document is None or not document["registered"]:
        if any(each.action == "remove" for each in changed) or known.removed_row:
            return Verdict(
                "removed",
                f"This {kind} was removed.",
                f"If that was a mistake, register it again: `tobogganing {kind}s add --help`",
            )
        if document is None:
            return Verdict(
                "never_registered",
                f"No {kind} with this id is registered, and none has a row.",
                "Check the id in the agent's configuration; register the "
                f"{kind}: `tobogganing {kind}s add --help`",
            )
    if document["state"] == "online":
        return Verdict("online", "It checks in as expected.", "Nothing to do.")
    if known.seconds_late:
        return Verdict(
            "pipeline_late",
            "Kafka or the processors are unavailable or behind, so newer submissions may be "
            "waiting.",
            "Check the pipeline first: `tobogganing ledger`, and /-/ready of each service.",
        )
    last = document["last_check_in"]

    def is_newer(at: float) -> bool:
        return last is None or (moment(at) or "") > last

    change_at = max((each.at for each in changed if each.action in _CREDENTIAL_ACTIONS), default=0)
    is_changed = bool(change_at) and is_newer(change_at)
    decisive = _decisive([each for each in _events(known) if is_newer(each.last_ms / 1000)])
    if decisive is not None:
        return _cause(kind, id, decisive, is_changed)
    if is_changed:
        return Verdict(
            "credential_changed",
            "Its credential was changed, and it has not reported since.",
            "Check that the agent has the new credential.",
        )
    if document["expired"]:
        return Verdict(
            "expired",
            "It reported, then stopped for longer than RETENTION_HOURS, so its values are gone.",
            "Check whether the agent still exists; if not, remove it: "
            f"`tobogganing {kind}s remove {id}`",
        )
    if last is None:
        return Verdict(
            "never_reported",
            "It is registered, and no submission of it has arrived.",
            "Check that the agent runs, that it can reach the gateway, and that it has the key "
            "from its registration.",
        )
    return Verdict(
        "silent",
        "It reported, then stopped; nothing of it arrives, and no administrative change explains "
        "it.",
        "Check the agent and its network: is it running, and can it reach the gateway?",
    )


def _events(known: Known) -> list[Reported]:
    """Return what was reported; dead letters are found in their own topic, too."""
    letters = known.findings.letters
    return known.reported + [
        Reported(
            EvidenceReason.DEAD_LETTERED,
            *(1, round(each.at * 1000), round(each.at * 1000), "", each.reason),
            str(each.receipt),
        )
        for each in letters[-1:]
    ]


def _decisive(events: list[Reported]) -> Reported | None:
    """Return the newest event; one that anybody can cause must be newer by an hour to win."""

    def weight(each: Reported) -> int:
        return each.last_ms - (OTHERS_HANDICAP_MS if each.reason in _FROM_OTHERS else 0)

    return max(events, key=weight, default=None)


def _cause(kind: str, id: str, event: Reported, is_changed: bool) -> Verdict:
    network = event.network or "an unknown network"
    detail = event.detail.rstrip(".") or "no reason given"
    match event.reason:
        case EvidenceReason.UNAUTHORIZED if is_changed:
            return Verdict(
                "refused",
                f"Its credential was changed, and since then a sender in {network} used a wrong "
                "one: probably the agent with the old one.",
                "Give the agent the new key.",
            )
        case EvidenceReason.UNAUTHORIZED:
            return Verdict(
                "refused",
                f"A sender in {network} used a wrong credential for it (401): the agent, or "
                "an attacker who guesses.",
                "If that is the agent's network, give it a new key: "
                f"`tobogganing {kind}s rotate {id}`",
            )
        case EvidenceReason.RATE_LIMITED:
            return Verdict(
                "refused",
                f"It sends more than RATE_LIMIT_PER_MINUTE allows (429): {detail}.",
                "Let it send less often; several agents may share the id.",
            )
        case EvidenceReason.INVALID | EvidenceReason.TOO_LARGE | EvidenceReason.UNSUPPORTED:
            return Verdict(
                "refused",
                f"It reports, and a gateway refuses the body: {detail}.",
                "Correct what the agent sends (docs/api.md).",
            )
        case EvidenceReason.OUT_OF_SCOPE:
            return Verdict(
                "refused",
                f"A relay submits for it, and it is not in the relay's scope: {detail}.",
                "Register a relay whose scope contains it, or let the agent use another.",
            )
        case EvidenceReason.STALE:
            return Verdict(
                "stale",
                "It reports, and its submissions are older than what is known.",
                "Check the agent's clock, and whether two agents share the id.",
            )
        case EvidenceReason.LATE:
            return Verdict(
                "late",
                "It reported, and Kafka appended its submission too late, so the response was 503.",
                "The agent must send again after a 503. Check the brokers: docs/runbook.md.",
            )
    return Verdict(
        "dead_lettered",
        f"It reports, and its newest submission could not be applied: {detail}.",
        "Repair the cause, and replay it: `tobogganing dead-letters --help`",
    )
