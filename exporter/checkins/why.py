"""Why an entity is silent: the evidence in order of time, and the next step. Pure."""

from typing import NamedTuple

from contract.audit import ChangeOutcome
from exporter.checkins.documents import Document, moment
from exporter.checkins.lookup import Change, Findings, Letter

_ACTIONS = {
    "register": "Registered",
    "enrol": "Registered by an enrolment",
    "repeat-enrolment": "Enrolled again, with a new API key",
    "rotate-key": "API key replaced",
    "revoke-tokens": "Tokens revoked",
    "issue-certificate": "Certificate issued",
    "remove": "Removed",
}
_CREDENTIAL_ACTIONS = ("rotate-key", "revoke-tokens", "repeat-enrolment")
"""Actions that change an entity's credentials."""


MAX_LETTERS = 20
"""Number of the newest dead letters to show."""


class Known(NamedTuple):
    """What the exporter knows of an entity. `document` is that of the entity, None if it is
    neither registered nor has a row; `removed_row`: its row says that it was removed."""

    document: Document | None
    removed_row: bool
    findings: Findings
    seconds_late: float


def explain(kind: str, id: str, known: Known) -> Document:
    """Return the evidence about an entity, a verdict, and what to do next."""
    evidence = [_change(change) for change in known.findings.changes]
    evidence += [_letter(letter) for letter in known.findings.letters[-MAX_LETTERS:]]
    document = known.document
    if document is not None and document["last_check_in"] is not None:
        evidence.append(
            {
                "at": document["last_check_in"],
                "what": "last_check_in",
                "text": "The newest submission that was applied",
                "receipt": document["receipt"],
            }
        )
    evidence.sort(key=lambda each: each["at"] or "")
    verdict, text, step = _verdict(kind, id, known)
    return {
        "kind": kind,
        "id": id,
        "state": None if document is None else document["state"],
        "verdict": verdict,
        "text": text,
        "next_step": step,
        "evidence": evidence,
    }


def _letter(letter: Letter) -> Document:
    return {
        "at": moment(letter.at),
        "what": "dead_letter",
        "text": f"A submission was accepted, and could not be applied: {letter.reason}",
        "receipt": str(letter.receipt),
    }


def _change(change: Change) -> Document:
    ends = {
        ChangeOutcome.ALLOWED: "",
        ChangeOutcome.REFUSED: " (refused)",
        ChangeOutcome.UNCONFIRMED: " (not confirmed; it may have taken effect)",
    }
    return {
        "at": moment(change.at),
        "what": change.action,
        "text": f"{_ACTIONS.get(change.action, change.action)}{ends[change.outcome]}"
        + (f": {change.reason}" if change.reason else ""),
    }


def _verdict(kind: str, id: str, known: Known) -> tuple[str, str, str]:
    """Return the verdict's name, a sentence, and the next step."""
    document = known.document
    changes, letters = known.findings
    changed = [each for each in changes if each.outcome is not ChangeOutcome.REFUSED]
    if document is None or not document["registered"]:
        if any(each.action == "remove" for each in changed) or known.removed_row:
            return (
                "removed",
                f"This {kind} was removed.",
                f"If that was a mistake, register it again: tobogganing {kind}s register --help",
            )
        if document is None:
            return (
                "never_registered",
                f"No {kind} with this id is registered, and none has a row.",
                "Check the id in the agent's configuration; register the "
                f"{kind}: tobogganing {kind}s register --help",
            )
    if document["state"] == "online":
        return ("online", "It checks in as expected.", "Nothing to do.")
    if known.seconds_late:
        return (
            "pipeline_late",
            "Kafka or the processors are away or behind, so newer submissions may be waiting.",
            "Check the pipeline first: `tobogganing ledger`, and /-/ready of each service.",
        )
    last = document["last_check_in"]

    def is_newer(at: float) -> bool:
        return last is None or (moment(at) or "") > last

    if any(is_newer(letter.at) for letter in letters):
        return (
            "dead_lettered",
            "It reports, and its newest submission could not be applied.",
            "Read the reason below, repair its cause, and replay: tobogganing dead-letters --help",
        )
    if any(is_newer(each.at) for each in changed if each.action in _CREDENTIAL_ACTIONS):
        return (
            "credential_changed",
            "Its credential was changed, and it has not reported since.",
            "Check that the agent has the new credential.",
        )
    if last is None:
        return (
            "never_reported",
            "It is registered and has no row: it never reported, or not within RETENTION_HOURS.",
            "Check that the agent runs, that it can reach the gateway, and that it has the key "
            "from its registration.",
        )
    return (
        "silent",
        "It reported, then stopped; no administrative change explains it.",
        "Check the agent: is it running, can it reach the gateway, and what status does it get? "
        "401: a wrong key; 400: a body that the gateway rejects; 429: too many submissions.",
    )
