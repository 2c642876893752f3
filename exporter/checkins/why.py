"""Why an entity is silent: the evidence in order of time, and the next step. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from contract.audit import ChangeOutcome
from exporter.checkins.audit import Change
from exporter.checkins.documents import Document, moment

_CREDENTIAL_ACTIONS = ("rotate", "revoke", "reset", "key")
"""Parts of the names of actions that change an entity's credentials."""


class Known(NamedTuple):
    """What the exporter knows of an entity. `document` is that of the entity, None if it is
    neither registered nor has a row; `removed_row`: its row says that it was removed."""

    document: Document | None
    removed_row: bool
    changes: Sequence[Change]
    seconds_late: float


def explain(kind: str, id: str, known: Known) -> Document:
    """Return the evidence about an entity, a verdict, and what to do next."""
    evidence = [_evidence(change) for change in known.changes]
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


def _evidence(change: Change) -> Document:
    ends = {
        ChangeOutcome.ALLOWED: "",
        ChangeOutcome.REFUSED: " (refused)",
        ChangeOutcome.UNCONFIRMED: " (not confirmed; it may have taken effect)",
    }
    return {
        "at": moment(change.at),
        "what": change.action,
        "text": f"{change.action}{ends[change.outcome]}"
        + (f": {change.reason}" if change.reason else ""),
    }


def _verdict(kind: str, id: str, known: Known) -> tuple[str, str, str]:
    """Return the verdict's name, a sentence, and the next step."""
    document = known.document
    changed = [each for each in known.changes if each.outcome is not ChangeOutcome.REFUSED]
    if document is None or not document["registered"]:
        if any(each.action.endswith("remove") for each in changed) or known.removed_row:
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
    rotated = [each for each in changed if any(a in each.action for a in _CREDENTIAL_ACTIONS)]
    after = [each for each in rotated if last is None or (moment(each.at) or "") > last]
    if after:
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
