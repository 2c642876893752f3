"""The report: one line per fault. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.chaos.model import Verdict

if TYPE_CHECKING:
    from tests.chaos.rounds import RoundLine

HEAD = (
    "fault",
    "rounds",
    "submissions",
    "acknowledged",
    "lost",
    "wrong",
    "longest stall: answers",
    "longest stall: scrapes",
    "after the fault",
    "exits",
)


def table(lines: "Sequence[RoundLine]") -> str:
    """Return a Markdown table, as in docs/guarantees.md."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_row(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(line: "RoundLine") -> tuple[str, ...]:
    if line.refused:
        return (line.fault, f"not here: {line.refused}", *("-" for _ in HEAD[2:]))
    return (
        line.fault,
        f"{line.rounds}",
        f"{line.submissions:,}",
        f"{line.acknowledged:,}",
        f"{len(line.verdict.lost)}",
        f"{len(line.verdict.wrong)}",
        f"{line.answer_stall:.1f} s",
        f"{line.scrape_stall:.1f} s",
        f"{line.stuck:.1f} s",
        f"{line.exits}",
    )


def faults(lines: "Sequence[RoundLine]", audit: Verdict, *, judge_stalls: bool) -> list[str]:
    """Return what was lost, wrong, too slow, or could not be tried."""
    found = [
        f"{line.fault}: {what}"
        for line in lines
        for what in [*line.verdict.lost, *line.verdict.wrong]
    ]
    found += [f"audit: {what}" for what in [*audit.lost, *audit.wrong]]
    found += [
        f"{line.fault}: a ledger made no progress for {line.scrape_stall:.1f} s, "
        f"the limit is {line.longest_allowed:.0f} s"
        for line in lines
        if judge_stalls and line.scrape_stall > line.longest_allowed
    ]
    return found + [f"{line.fault}: not here: {line.refused}" for line in lines if line.refused]


def summary(lines: "Sequence[RoundLine]", found: Sequence[str], seed: int) -> str:
    """Return a summary of the findings."""
    seconds = sum(line.seconds for line in lines)
    if not found:
        return f"Nothing was lost, nothing was wrong. {seconds:.0f} s, SEED={seed}"
    return "\n".join([*found, f"FAULTS: {len(found)}. Repeat with SEED={seed}"])
