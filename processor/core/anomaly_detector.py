"""Anomalies: what is odd about a submission, seen beside its entity's row. Pure.

Every doubt is the agent's: what a restart, a backlog, an attempt that was repeated or an outage
explains is no anomaly. What must be remembered beyond the row is small, is kept in memory only and
starts anew with the worker: an entity's first submission teaches and is not judged.
"""

from collections.abc import Sequence

import msgspec

from contract.anomaly import Reason
from contract.frame import Submission
from contract.kinds import KINDS
from contract.row import EntityRow

Finding = tuple[Reason, str]
"""What is odd, and the detail in words."""

YOUNG = 5.0
"""Seconds by which an uptime may exceed the time since the last report and still mean a restart."""
UPTIME_AHEAD = 300.0
"""Seconds by which an uptime may grow more than time: the report before it may have been late."""
CLOCK_AHEAD = 60.0
"""Seconds that a timestamp may be ahead (from 5 minutes on, the gateway refuses it)."""
CLOCK_BEHIND = 300.0
"""Seconds that a timestamp may be behind, however steadily."""
STEADY, STEADY_LAGS = 0.1, 3
"""Share of a gap by which a lag may differ to be the same one; so many are a clock, no backlog."""
FLAP, FLAPPING = 5, 15
"""What a change of labels adds (a report without one takes 1 off), and from where on it flaps."""
LEARNT = 8
"""Gaps in a row that must agree, within `AGREES`, before an entity has a cadence."""
AGREES, FAR_OFF = 4.0, 5.0
SHORT_GAPS, LONG_GAPS = 5, 3
"""Gaps in a row, far off, that are odd. One long silence is not: offline alerts are for that."""
ACCEPTED = 10
"""Gaps in a row, far off, after which they are the new cadence, to be learnt."""


class EntityHistory(msgspec.Struct, gc=False):
    """What is remembered of one entity beside its row; times are in seconds since the epoch."""

    checked_in: float
    uptime_at: float
    """When the row's uptime was reported."""
    unsettled: tuple[str, ...]
    """Counters whose value in the row is older than the agent's last start."""
    lag: float = 0.0
    lags: int = 0
    flaps: int = 0
    gap: float = 0.0
    gaps: int = 0
    off: int = 0
    """Gaps in a row that are too short (above 0) or too long (below)."""


class _KindRules:
    """What the declaration of a kind says, ready to be compared."""

    def __init__(self, name: str) -> None:
        metrics = KINDS[name].metrics
        self.counters = [(m.field, m.max_value) for m in metrics if m.semantic == "counter"]
        self.limits = [
            (m.field, m.max_value)
            for m in metrics
            if m.semantic == "gauge" and m.max_value != float("inf")
        ]
        self.uptime = next((m.field for m in metrics if m.semantic == "uptime"), "")


_KINDS = {name: _KindRules(name) for name in KINDS}


def detect(
    histories: dict[bytes, EntityHistory],
    key: bytes,
    row: EntityRow | None,
    submission: Submission,
    now: int,
) -> Sequence[Finding]:
    """Judge a submission that is about to change `row`; `now`: its append time, in milliseconds."""
    kind = _KINDS.get(submission.kind)
    if kind is None:
        return ()
    time = now / 1000 if submission.timestamp is None else submission.timestamp
    history = histories.get(key)
    if (
        history is None
        or row is None
        or row.removed
        or row.incarnation != submission.incarnation
        or submission.removed
    ):
        unsettled = _missing_counters(kind, submission)
        histories[key] = EntityHistory(checked_in=time, uptime_at=time, unsettled=unsettled)
        return ()
    found: list[Finding] = []
    elapsed = time - history.checked_in
    if kind.counters:
        seconds = elapsed if elapsed > 1.0 else 1.0
        if not history.unsettled and _is_plain(
            kind, row.metrics, submission.metrics, time - history.uptime_at, seconds
        ):
            history.uptime_at = time
        else:
            _check_counters(kind, history, row.metrics, submission, time, seconds, found)
    for field, most in kind.limits:
        value = submission.metrics.get(field)
        if value is not None and value > most:
            found.append((Reason.RATE, f"{field} is {value:g}"))
    if submission.timestamp is not None:
        _check_clock(history, now / 1000 - submission.timestamp, elapsed, found)
    _check_labels(history, row.labels, submission.labels, found)
    _check_cadence(history, elapsed, found)
    history.checked_in = time
    return found


def _missing_counters(kind: _KindRules, submission: Submission) -> tuple[str, ...]:
    return tuple([field for field, _ in kind.counters if field not in submission.metrics])


def _check_counters(
    kind: _KindRules,
    history: EntityHistory,
    held: dict[str, int | float],
    submission: Submission,
    time: float,
    seconds: float,
    found: list[Finding],
) -> None:
    metrics = submission.metrics
    restarted = False
    uptime = metrics.get(kind.uptime)
    if uptime is not None:
        before = held.get(kind.uptime)
        since = time - history.uptime_at
        if before is None or uptime < before or uptime <= since + YOUNG:
            restarted = True
        elif uptime - before > since + UPTIME_AHEAD:
            detail = f"{kind.uptime} grew by {uptime - before:g} in {since:g} s"
            found.append((Reason.RATE, detail))
        history.uptime_at = time
    unsettled = history.unsettled
    for field, most in kind.counters:
        value = metrics.get(field)
        if value is None:
            continue
        before = held.get(field)
        if before is None or (unsettled and field in unsettled):
            continue
        if value < before:
            if uptime is None:  # it may have started again, and did not say
                restarted = True
            elif not restarted:
                detail = f"{field} fell from {before:g} to {value:g} at an uptime of {uptime:g} s"
                found.append((Reason.BACKWARDS, detail))
        elif value - before > most * seconds:
            detail = f"{field} grew by {value - before:g} in {seconds:g} s"
            found.append((Reason.RATE, detail))
    if restarted:
        history.unsettled = _missing_counters(kind, submission)
    elif unsettled:
        history.unsettled = tuple([field for field in unsettled if field not in metrics])


def _is_plain(
    kind: _KindRules,
    held: dict[str, int | float],
    metrics: dict[str, int | float],
    since: float,
    seconds: float,
) -> bool:
    """Tell quickly whether all counters and the uptime are there and grew as they may."""
    try:
        for field, most in kind.counters:
            if not 0 <= metrics[field] - held[field] <= most * seconds:
                return False
        uptime, before = metrics[kind.uptime], held[kind.uptime]
    except KeyError:
        return False
    return since + YOUNG < uptime >= before >= uptime - since - UPTIME_AHEAD


def _check_clock(history: EntityHistory, lag: float, elapsed: float, found: list[Finding]) -> None:
    steady = abs(lag - history.lag) < STEADY * elapsed
    history.lags = history.lags + 1 if steady and lag > CLOCK_BEHIND else 0
    history.lag = lag
    if lag < -CLOCK_AHEAD:
        found.append((Reason.CLOCK, f"the clock is {-lag:.0f} s ahead"))
    elif history.lags >= STEADY_LAGS:
        found.append((Reason.CLOCK, f"the clock is {lag:.0f} s behind"))


def _check_labels(
    history: EntityHistory, held: dict[str, str], sent: dict[str, str], found: list[Finding]
) -> None:
    for name, value in sent.items():
        if held.get(name, value) != value:
            history.flaps = min(history.flaps + FLAP, FLAPPING + FLAP)
            if history.flaps >= FLAPPING:
                detail = f"{name} changed again, from {held[name]!r} to {value!r}"
                found.append((Reason.LABELS, detail))
            return
    if history.flaps:
        history.flaps -= 1


def _check_cadence(history: EntityHistory, gap: float, found: list[Finding]) -> None:
    usual = history.gap
    if history.gaps < LEARNT:
        if gap * AGREES < usual or gap > usual * AGREES:
            history.gap, history.gaps = gap, 1
        else:
            history.gaps += 1
            history.gap = usual + (gap - usual) / history.gaps
        return
    if gap * FAR_OFF < usual:
        history.off = off = history.off + 1 if history.off > 0 else 1
        odd = off >= SHORT_GAPS
    elif gap > usual * FAR_OFF:
        history.off = off = history.off - 1 if history.off < 0 else -1
        odd = off <= -LONG_GAPS
    else:
        history.off = 0
        history.gap = usual + (gap - usual) / 16
        return
    if odd:
        found.append((Reason.CADENCE, f"{gap:.1f} s after the one before, usually {usual:.1f} s"))
    if abs(off) >= ACCEPTED:
        history.gaps = history.off = 0
