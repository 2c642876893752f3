"""Detects anomalies: compares a submission with its entity's row. Pure.

Doubtful cases are not reported: restarts, backlogs, retries and outages explain many
differences.
State beyond the row is small and in memory only, so it is lost when the worker restarts. An
entity's first submission initialises the state and is not checked.
"""

from collections.abc import Sequence

import msgspec

from contract.anomaly import Reason
from contract.frame import Submission
from contract.kinds import KINDS
from contract.row import EntityRow
from processor.core.growth import Excess

Finding = tuple[Reason, str]
"""The reason and a detail text."""

RESTART_TOLERANCE = 5.0
"""Seconds by which an uptime may exceed the time since the last report and still mean a restart."""
UPTIME_AHEAD = 300.0
"""Seconds by which an uptime may grow faster than time: the previous report may have been late."""
CLOCK_AHEAD = 60.0
"""Seconds that a timestamp may be in the future (the gateway rejects more than 5 minutes)."""
CLOCK_BEHIND = 300.0
"""Seconds that a timestamp may be in the past, even by a constant time."""
LAG_TOLERANCE, EQUAL_LAGS = 0.1, 3
"""Lags within 10% of the interval count as equal; three equal lags mean clock skew, not
a backlog."""
FLAP_STEP, FLAP_LIMIT = 5, 15
"""A label change adds FLAP_STEP to a counter, a report without one subtracts 1; from FLAP_LIMIT
on it is an anomaly."""
GAPS_TO_LEARN = 8
"""Consecutive gaps within a factor of CADENCE_FACTOR that establish an entity's cadence."""
CADENCE_FACTOR, DEVIATION_FACTOR = 4.0, 5.0
SHORT_GAPS, LONG_GAPS = 5, 3
"""Consecutive deviating gaps that count as an anomaly. One long gap does not: offline alerts cover
it."""
GAPS_TO_RELEARN = 10
"""Consecutive deviating gaps after which the cadence is learnt again."""


class EntityHistory(msgspec.Struct, gc=False):
    """State of one entity in addition to its row; times are in seconds since the epoch."""

    checked_in: float
    uptime_at: float
    """When the row's uptime was reported."""
    outdated_counters: tuple[str, ...]
    """Counters whose value in the row is from before the agent's last start."""
    lag: float = 0.0
    lags: int = 0
    flaps: int = 0
    gap: float = 0.0
    gaps: int = 0
    deviating: int = 0
    """Consecutive gaps that are too short (positive) or too long (negative)."""


class _KindRules:
    """The checks of a kind, derived from its declaration."""

    def __init__(self, name: str) -> None:
        metrics = KINDS[name].metrics
        self.counters = [metric.field for metric in KINDS[name].counters]
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
    previous: EntityRow | None,
    submission: Submission,
    now: int,
    excess: Sequence[Excess] | None,
) -> Sequence[Finding]:
    """Return the anomalies of a submission that was appended at `now`, in milliseconds.

    `previous` is the row before the submission; None for the first submission of a registration and
    for a removal. `excess` is the second result of `growth_of`.
    """
    kind = _KINDS.get(submission.kind)
    if kind is None:
        return ()
    found = [(Reason.RATE, each.detail) for each in excess] if excess else []
    time = now / 1000 if submission.timestamp is None else submission.timestamp
    history = histories.get(key)
    if history is None or previous is None:
        outdated_counters = _missing_counters(kind, submission)
        histories[key] = EntityHistory(
            checked_in=time, uptime_at=time, outdated_counters=outdated_counters
        )
        return found
    elapsed = time - history.checked_in
    if kind.counters:
        is_regular = excess is None and not history.outdated_counters
        if is_regular and _is_plausible(
            previous.metrics.get(kind.uptime),
            submission.metrics.get(kind.uptime),
            time - history.uptime_at,
        ):
            history.uptime_at = time
        else:
            _check_counters(kind, history, previous.metrics, submission, time, found)
    for field, limit in kind.limits:
        value = submission.metrics.get(field)
        if value is not None and value > limit:
            found.append((Reason.RATE, f"{field} is {value:g}"))
    if submission.timestamp is not None:
        _check_clock(history, now / 1000 - submission.timestamp, elapsed, found)
    _check_labels(history, previous.labels, submission.labels, found)
    _check_cadence(history, elapsed, found)
    history.checked_in = time
    return found


def _missing_counters(kind: _KindRules, submission: Submission) -> tuple[str, ...]:
    return tuple([field for field in kind.counters if field not in submission.metrics])


def _check_counters(
    kind: _KindRules,
    history: EntityHistory,
    previous: dict[str, int | float],
    submission: Submission,
    time: float,
    found: list[Finding],
) -> None:
    metrics = submission.metrics
    restarted = False
    uptime = metrics.get(kind.uptime)
    if uptime is not None:
        before = previous.get(kind.uptime)
        since = time - history.uptime_at
        if before is None or uptime < before or uptime <= since + RESTART_TOLERANCE:
            restarted = True
        elif uptime - before > since + UPTIME_AHEAD:
            detail = f"{kind.uptime} grew by {uptime - before:g} in {since:g} s"
            found.append((Reason.RATE, detail))
        history.uptime_at = time
    outdated_counters = history.outdated_counters
    for field in kind.counters:
        value = metrics.get(field)
        if value is None:
            continue
        before = previous.get(field)
        if before is None or (outdated_counters and field in outdated_counters):
            continue
        if value < before:
            if uptime is None:  # the agent may have restarted without reporting it
                restarted = True
            elif not restarted:
                detail = f"{field} fell from {before:g} to {value:g} at an uptime of {uptime:g} s"
                found.append((Reason.BACKWARDS, detail))
    if restarted:
        history.outdated_counters = _missing_counters(kind, submission)
    elif outdated_counters:
        history.outdated_counters = tuple(
            [field for field in outdated_counters if field not in metrics]
        )


def _is_plausible(before: float | None, uptime: float | None, since: float) -> bool:
    """Return whether the uptime grew with the time since the last one, without a restart."""
    if before is None or uptime is None:
        return False
    return since + RESTART_TOLERANCE < uptime >= before >= uptime - since - UPTIME_AHEAD


def _check_clock(history: EntityHistory, lag: float, elapsed: float, found: list[Finding]) -> None:
    is_equal = abs(lag - history.lag) < LAG_TOLERANCE * elapsed
    history.lags = history.lags + 1 if is_equal and lag > CLOCK_BEHIND else 0
    history.lag = lag
    if lag < -CLOCK_AHEAD:
        found.append((Reason.CLOCK, f"the clock is {-lag:.0f} s ahead"))
    elif history.lags >= EQUAL_LAGS:
        found.append((Reason.CLOCK, f"the clock is {lag:.0f} s behind"))


def _check_labels(
    history: EntityHistory, previous: dict[str, str], sent: dict[str, str], found: list[Finding]
) -> None:
    for name, value in sent.items():
        if previous.get(name, value) != value:
            history.flaps = min(history.flaps + FLAP_STEP, FLAP_LIMIT + FLAP_STEP)
            if history.flaps >= FLAP_LIMIT:
                detail = f"{name} changed again, from {previous[name]!r} to {value!r}"
                found.append((Reason.LABELS, detail))
            return
    if history.flaps:
        history.flaps -= 1


def _check_cadence(history: EntityHistory, gap: float, found: list[Finding]) -> None:
    usual = history.gap
    if history.gaps < GAPS_TO_LEARN:
        if gap * CADENCE_FACTOR < usual or gap > usual * CADENCE_FACTOR:
            history.gap, history.gaps = gap, 1
        else:
            history.gaps += 1
            history.gap = usual + (gap - usual) / history.gaps
        return
    if gap * DEVIATION_FACTOR < usual:
        history.deviating = deviating = history.deviating + 1 if history.deviating > 0 else 1
        is_anomaly = deviating >= SHORT_GAPS
    elif gap > usual * DEVIATION_FACTOR:
        history.deviating = deviating = history.deviating - 1 if history.deviating < 0 else -1
        is_anomaly = deviating <= -LONG_GAPS
    else:
        history.deviating = 0
        history.gap = usual + (gap - usual) / 16
        return
    if is_anomaly:
        found.append((Reason.CADENCE, f"{gap:.1f} s after the previous one, usually {usual:.1f} s"))
    if abs(deviating) >= GAPS_TO_RELEARN:
        history.gaps = history.deviating = 0
