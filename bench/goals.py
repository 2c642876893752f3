"""The goals of docs/performance.md, and whether a run reached them."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.open_loop_driver import BASELINE, PEER_LOADS, SUBJECT, SYSTEM, Load
from bench.rounds import Measurements, ratio


class Cell(NamedTuple):
    """A figure of a run: the case of a subject whose system and case match, and its name."""

    subject: str
    system: str
    """Start of the system's name."""
    case: str
    """Part of the case."""
    figure: str
    """Name of the figure; `cpu` is the CPU time of all processes."""

    def rounds(self, figures: Sequence[Measurements]) -> list[float] | None:
        """The values by round; None if it was not measured."""
        for each in figures:
            is_ours = each.subject == self.subject and each.system.startswith(self.system)
            if is_ours and self.case in each.case:
                return each.total() if self.figure == "cpu" else each.figures.get(self.figure)
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


def _gateway(case: str) -> Cell:
    return Cell("Gateway", "Tobogganing gateway", case, "cpu gateway")


def _peer(system: str, case: str) -> Cell:
    return Cell("Gateway", system, case, f"cpu {system}")


_KEYS, _KEYS_256 = (_gateway(f"{n} connections, API keys, 4 part") for n in (32, 256))
_FRESH = _gateway("a new connection")
_PLAIN, _PLAIN_256 = (_peer("Plain ASGI function", f"{n} connections") for n in (32, 256))
_PUSHGATEWAY = _peer("Pushgateway, checks off", "32 connections")
_COLLECTOR = _peer("OpenTelemetry Collector", "32 connections")
_BATCHES, _PLAIN_BATCHES, _VICTORIA_BATCHES = (
    cell._replace(subject="Gateway, batches", case="")
    for cell in (_KEYS, _PLAIN, _peer("VictoriaMetrics", ""))
)
_FRAMES = Cell("Processor", "", "1 worker, frames of 50, 200,000 ", "cpu processor")
_FRAMES_2 = _FRAMES._replace(case="2 workers, frames of 50, 200,000 ")
_RECOVERY = Cell("Recovery", "", "500,000 rows", "back_seconds")
_APPLY = Cell("Exporter", "", "the store of 100,000 clients", "apply_again_cpu_us")
_RENDER = _APPLY._replace(figure="render_cpu_seconds")
_CATCH_UP = Cell("Exporter", "", "catching up, 100,000 clients", "ready_seconds")
_SCRAPE = Cell("Scrape", "Tobogganing", "100,000 clients, gzip", "seconds")
_SCRAPE_PUSHGATEWAY, _SCRAPE_COLLECTOR = (
    Cell("Scrape", system, "", "seconds") for system in ("Pushgateway", "OpenTelemetry")
)
_MEMORY = _SCRAPE._replace(figure="bytes a client")
_REACHED = Cell("End to end", "", "20,000 a second", "asked to reached")
_GROWTH = _REACHED._replace(figure="memory, last quarter to second")
_FRESHNESS = _REACHED._replace(figure="fresh p99 ms")


def _fleet(load: Load, figure: str = "cpu", system: str = SYSTEM) -> Cell:
    return Cell(SUBJECT, system, load.case, figure)


_KEPT, _FAST = Load(300), Load(1000)
_AGAINST = {
    (BASELINE, f"{SYSTEM} {BASELINE}"): {
        Load(100, "new"): 0.32,
        _KEPT: 0.24,
        _FAST: 0.20,
        Load(300, "new", edge=True): 0.42,
        Load(300, edge=True): 0.26,
    },
    ("VictoriaMetrics", "VictoriaMetrics"): {_KEPT: 2.0, _FAST: 1.4},
}
"""Maximum ratio of the CPU time of all parts to that of another system, by its label and name."""
_FLEET = (
    *(
        Goal(
            f"{load.case}: all CPU, to {label}", most, _TIMES, _fleet(load), _fleet(load, system=to)
        )
        for (label, to), loads in _AGAINST.items()
        for load, most in loads.items()
    ),
    *(
        Goal(
            f"{load.case}: gateway, to {peer}",
            1,
            _TIMES,
            _fleet(load, "cpu gateway"),
            _fleet(load, f"cpu {peer}", peer),
        )
        for peer in ("VictoriaMetrics", "Pushgateway, checks off")
        for load in PEER_LOADS
    ),
    Goal(f"{_KEPT.case}: response p99", 150, "ms", _fleet(_KEPT, "answer p99 ms")),
    Goal(f"{_KEPT.case}: freshness p99", 500, "ms", _fleet(_KEPT, "fresh p99 ms")),
)

GOALS = (
    Goal("Gateway, 32 connections", 60, _US, _KEYS),
    Goal("Gateway, 256 connections", 60, _US, _KEYS_256),
    Goal("Gateway to plain function, 32", round(60 / PLAIN_US, 2), _TIMES, _KEYS, _PLAIN),
    Goal("Gateway to plain function, 256", round(60 / PLAIN_US, 2), _TIMES, _KEYS_256, _PLAIN_256),
    Goal("Gateway to Pushgateway without checks", 1, _TIMES, _KEYS, _PUSHGATEWAY),
    Goal("Gateway to OpenTelemetry Collector", 1, _TIMES, _KEYS, _COLLECTOR, optional=True),
    Goal("Gateway, a new connection for each", 100, _US, _FRESH),
    Goal("New connections to plain function", round(100 / PLAIN_US, 2), _TIMES, _FRESH, _PLAIN),
    Goal("JWTs to API keys", 1.1, "times", _gateway("JWTs"), _KEYS),
    Goal("Gateway, batches of 500", 3, _US, _BATCHES),
    Goal(
        "Batches to plain function", round(3 / PLAIN_BATCH_US, 2), _TIMES, _BATCHES, _PLAIN_BATCHES
    ),
    Goal("Batches to VictoriaMetrics", 1, _TIMES, _BATCHES, _VICTORIA_BATCHES),
    Goal("Processor, frames of 50", 20, _US, _FRAMES),
    Goal("Processor, two workers to one", 1.1, "times", _FRAMES_2, _FRAMES),
    Goal("Processor, killed with 500,000 rows: back after", 20, "s", _RECOVERY),
    Goal("Exporter, a row applied", 8, _US, _APPLY),
    Goal("Exporter, catching up with 1,000,000 rows", 12, "s", _CATCH_UP),
    Goal("Rendering 100,000 clients", 0.15, "s CPU", _RENDER),
    Goal("Scrape of 100,000 clients, gzip, over HTTP", 0.3, "s", _SCRAPE),
    Goal("Scrape to Pushgateway", 0.033, "times its time", _SCRAPE, _SCRAPE_PUSHGATEWAY),
    Goal("Scrape to Collector", 0.033, "times its time", _SCRAPE, _SCRAPE_COLLECTOR, optional=True),
    Goal("Exporter, memory a client, all of it, of 100,000", 1600, "bytes", _MEMORY),
    Goal("End to end, 20,000 a second: asked to reached", 1.03, "times", _REACHED),
    Goal("End to end, memory, last quarter to second", 1.05, "times", _GROWTH),
    Goal("End to end, freshness p99", 500, "ms", _FRESHNESS),
    *_FLEET,
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
