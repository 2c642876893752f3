"""The goals of docs/performance.md, and whether a run reached them."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.rounds import Measurements, ratio


class Cell(NamedTuple):
    """A figure of a run: the case of a subject whose system and case match, and its name."""

    subject: str
    system: str
    """Start of the system's name."""
    case: str
    """Part of the case."""
    figure: str

    def rounds(self, figures: Sequence[Measurements]) -> list[float] | None:
        """The values by round; None if it was not measured."""
        for each in figures:
            is_ours = each.subject == self.subject and each.system.startswith(self.system)
            if is_ours and self.case in each.case:
                return each.figures.get(self.figure)
        return None


class Goal(NamedTuple):
    """At most `most`: a cell, or the median ratio of a cell to another one."""

    text: str
    most: float
    unit: str
    cell: Cell
    to: Cell | None = None
    optional: bool = False
    """Needs a system that not every machine has."""

    def value(self, figures: Sequence[Measurements]) -> float | None:
        """The value reached; None if it was not measured."""
        found = self.cell.rounds(figures)
        below = [1.0] * len(found or ()) if self.to is None else self.to.rounds(figures)
        return ratio(found, below) if found and below else None


class Reached(NamedTuple):
    text: str
    value: str
    met: bool


PLAIN_US, PLAIN_BATCH_US = 24.7, 0.54
"""The plain function's CPU time a submission on the machine for which the goals were set."""
_US, _TIMES = "µs CPU", "times its CPU"
_KEY_CASE, _KEY_CASE_256 = "32 connections, API keys, 4 part", "256 connections, API keys, 4 part"


def _ours(case: str) -> Cell:
    return Cell("Gateway", "Tobogganing gateway", case, "cpu gateway")


def _peer(system: str, case: str) -> Cell:
    return Cell("Gateway", system, case, f"cpu {system}")


_BY_KEY, _BY_KEY_256 = _ours(_KEY_CASE), _ours(_KEY_CASE_256)
_PLAIN = _peer("Plain ASGI function", "32 connections")
_PLAIN_256 = _PLAIN._replace(case="256 connections")
_BATCHES = _BY_KEY._replace(subject="Gateway, batches", case="")
_FRAMES = Cell("Processor", "", "1 worker, frames of 50, 200,000 ", "cpu processor")
_STORE = Cell("Exporter", "", "the store of 100,000 clients", "apply_again_cpu_us")
_SCRAPE = Cell("Scrape", "Tobogganing", "100,000 clients, gzip", "seconds")
_AT_RATE = Cell("End to end", "", "20,000 a second", "asked to reached")

GOALS = (
    Goal("Gateway, one a request, 32 connections", 60, _US, _BY_KEY),
    Goal("Gateway, one a request, 256 connections", 60, _US, _BY_KEY_256),
    Goal(
        "The same, 32 connections, to a plain function that keeps nothing",
        round(60 / PLAIN_US, 2),
        _TIMES,
        _BY_KEY,
        _PLAIN,
    ),
    Goal(
        "The same, 256 connections",
        round(60 / PLAIN_US, 2),
        _TIMES,
        _BY_KEY_256,
        _PLAIN_256,
    ),
    Goal(
        "The same, 32 connections, to a Pushgateway without checks",
        1,
        _TIMES,
        _BY_KEY,
        _peer("Pushgateway, checks off", "32 connections"),
    ),
    Goal(
        "The same, 32 connections, to an OpenTelemetry Collector",
        1,
        _TIMES,
        _BY_KEY,
        _peer("OpenTelemetry Collector", "32 connections"),
        optional=True,
    ),
    Goal("Gateway, a new connection for each", 100, _US, _ours("a new connection")),
    Goal(
        "The same, to a plain function over kept connections",
        round(100 / PLAIN_US, 2),
        _TIMES,
        _ours("a new connection"),
        _PLAIN,
    ),
    Goal("JWTs against API keys", 1.1, "times", _ours("JWTs"), _BY_KEY),
    Goal("Gateway, batches of 500", 3, _US, _BATCHES),
    Goal(
        "The same, to a plain function",
        round(3 / PLAIN_BATCH_US, 2),
        _TIMES,
        _BATCHES,
        _PLAIN._replace(subject="Gateway, batches", case=""),
    ),
    Goal(
        "The same, to VictoriaMetrics",
        1,
        _TIMES,
        _BATCHES,
        _peer("VictoriaMetrics", "")._replace(subject="Gateway, batches"),
    ),
    Goal("Processor, frames of 50", 20, _US, _FRAMES),
    Goal(
        "Processor, two workers against one",
        1.1,
        "times",
        _FRAMES._replace(case="2 workers, frames of 50, 200,000 "),
        _FRAMES,
    ),
    Goal(
        "Processor, killed with 500,000 rows: back after",
        20,
        "s",
        Cell("Recovery", "", "500,000 rows", "back_seconds"),
    ),
    Goal("Exporter, a row applied", 8, _US, _STORE),
    Goal(
        "Exporter, catching up with 1,000,000 rows",
        12,
        "s",
        Cell("Exporter", "", "catching up, 100,000 clients", "ready_seconds"),
    ),
    Goal("Rendering 100,000 clients", 0.15, "s CPU", _STORE._replace(figure="render_cpu_seconds")),
    Goal("Scrape of 100,000 clients, gzip, over HTTP", 0.3, "s", _SCRAPE),
    Goal(
        "The same, to a Pushgateway",
        round(1 / 30, 3),
        "times its time",
        _SCRAPE,
        Cell("Scrape", "Pushgateway", "", "seconds"),
    ),
    Goal(
        "The same, to an OpenTelemetry Collector",
        round(1 / 30, 3),
        "times its time",
        _SCRAPE,
        Cell("Scrape", "OpenTelemetry", "", "seconds"),
        optional=True,
    ),
    Goal(
        "Exporter, memory a client, all of it, of 100,000",
        1600,
        "bytes",
        _SCRAPE._replace(figure="bytes a client"),
    ),
    Goal("End to end, 20,000 a second: asked to reached", 1.03, "times", _AT_RATE),
    Goal(
        "End to end, memory, last half minute to the second one",
        1.05,
        "times",
        _AT_RATE._replace(figure="memory, last quarter to second"),
    ),
    Goal("Freshness p99, end to end", 1000, "ms", _AT_RATE._replace(figure="fresh p99 ms")),
)


def missing(figures: Sequence[Measurements]) -> list[str]:
    """The goals that the run did not measure."""
    return [goal.text for goal in GOALS if not goal.optional and goal.value(figures) is None]


def reached(figures: Sequence[Measurements]) -> list[Reached]:
    """The goals that the run measured, and whether they were met."""
    found = []
    for goal in GOALS:
        value = goal.value(figures)
        if value is not None:
            shown = f"{value:,.3g} {goal.unit} (at most {goal.most:g})"
            found.append(Reached(goal.text, shown, value <= goal.most))
    return found
