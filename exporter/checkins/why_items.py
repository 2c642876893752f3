"""The evidence about one entity, as documents in the order of time. Pure."""

from contract.audit import ChangeOutcome
from contract.evidence import EvidenceReason
from exporter.checkins.documents import Document, moment
from exporter.checkins.evidence import Reported
from exporter.checkins.lookup import Change, Letter

MAX_LETTERS = 20
"""Number of the newest dead letters to show."""

_ACTIONS = {
    "register": "Registered",
    "enrol": "Registered by an enrolment",
    "repeat-enrolment": "Enrolled again, with a new API key",
    "rotate-key": "API key replaced",
    "revoke-tokens": "Tokens revoked",
    "issue-certificate": "Certificate issued",
    "remove": "Removed",
}
_OUTCOMES = {
    ChangeOutcome.ALLOWED: "",
    ChangeOutcome.REFUSED: " (refused)",
    ChangeOutcome.UNCONFIRMED: " (not confirmed; it may have taken effect)",
}
_REASONS = {
    EvidenceReason.UNAUTHORIZED: "Somebody used a wrong credential for it (401)",
    EvidenceReason.RATE_LIMITED: "It sent too many requests (429)",
    EvidenceReason.INVALID: "A gateway refused a body (400)",
    EvidenceReason.TOO_LARGE: "A gateway refused a body that is too large (413)",
    EvidenceReason.UNSUPPORTED: "A gateway refused a body of another type (415)",
    EvidenceReason.OUT_OF_SCOPE: "A relay submitted for it, and may not",
    EvidenceReason.STALE: "A submission was accepted, and is older than what is known",
    EvidenceReason.LATE: "Kafka appended a submission after its deadline; the response was 503",
    EvidenceReason.DEAD_LETTERED: "A submission was accepted, and could not be applied",
    EvidenceReason.EXPIRED: "It expired",
}


def evidence_items(
    changes: list[Change], letters: list[Letter], reported: list[Reported], *, with_actors: bool
) -> list[Document]:
    """Return everything that was found, in no order. `with_actors`: also who made a change, and
    from which address."""
    # The topic of dead letters has each, so the last one is not shown twice.
    receipts = {str(letter.receipt) for letter in letters}
    return [
        *(_change(change, with_actors) for change in changes),
        *(_letter(letter) for letter in letters[-MAX_LETTERS:]),
        *(_reported(each) for each in reported if each.receipt not in receipts),
    ]


def _reported(each: Reported) -> Document:
    text = _REASONS[each.reason]
    if each.network:
        text += f" from {each.network}"
    if each.detail:
        text += f": {each.detail}"
    document = {
        "at": moment(each.last_ms / 1000),
        "what": each.reason.value,
        "text": text,
        "count": each.times,
        "first_at": moment(each.first_ms / 1000),
    }
    optional = {"network": each.network, "receipt": each.receipt}
    return document | {name: value for name, value in optional.items() if value}


def _letter(letter: Letter) -> Document:
    return {
        "at": moment(letter.at),
        "what": "dead_letter",
        "text": f"{_REASONS[EvidenceReason.DEAD_LETTERED]}: {letter.reason}",
        "receipt": str(letter.receipt),
    }


def _change(change: Change, with_actors: bool) -> Document:
    text = f"{_ACTIONS.get(change.action, change.action)}{_OUTCOMES[change.outcome]}"
    document = {
        "at": moment(change.at),
        "what": change.action,
        "text": text + (f": {change.reason}" if change.reason else ""),
    }
    if with_actors:
        document |= {"actor": change.actor, "address": change.address}
    return document
