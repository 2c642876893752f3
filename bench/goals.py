"""What was to be reached, and what was."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.rounds import Measurements, ratio

Figure = Callable[[Sequence[Measurements]], float | None]


class Goal(NamedTuple):
    """One aim: `figure` finds its value in a run's figures, or None where it was not measured."""

    text: str
    most: float
    unit: str
    figure: Figure
    optional: bool = False
    """It is beside a system that not every machine can have."""


class Reached(NamedTuple):
    text: str
    value: str
    met: bool


def _find(
    figures: Sequence[Measurements], subject: str, system: str, case: str
) -> Measurements | None:
    return next(
        (
            each
            for each in figures
            if each.subject == subject and each.system.startswith(system) and case in each.case
        ),
        None,
    )


def _of(subject: str, system: str, case: str, name: str) -> Figure:
    def figure(figures: Sequence[Measurements]) -> float | None:
        found = _find(figures, subject, system, case)
        return None if found is None or name not in found.figures else found.median(name)

    return figure


def _ratio(
    above: tuple[str, str, str],
    below: tuple[str, str, str],
    name: str,
    processes: tuple[str, str],
) -> Figure:
    """One figure of one process of each: the median of the rounds' ratios."""

    def figure(figures: Sequence[Measurements]) -> float | None:
        upper, lower = _find(figures, *above), _find(figures, *below)
        if upper is None or lower is None:
            return None
        return ratio(
            upper.figures[f"{name} {processes[0]}"], lower.figures[f"{name} {processes[1]}"]
        )

    return figure


def _quotient(above: Figure, below: Figure) -> Figure:
    def figure(figures: Sequence[Measurements]) -> float | None:
        upper, lower = above(figures), below(figures)
        return None if upper is None or not lower else upper / lower

    return figure


_FLOOR_US = 24.7
"""CPU time of the plain function, a submission, on the machine for which the aims were set."""
_FLOOR_BATCH_US = 0.54
"""The same of a batch: 1,600,000 to 2,100,000 submissions decoded a second."""
_ONE = ("Gateway", "Tobogganing gateway")
_PLAIN = ("Gateway", "Plain ASGI function")
_MANY = ("Gateway, batches", "Tobogganing gateway")
_BY_KEY = (*_ONE, "32 connections, API keys, 4 part")
_FRAMES = ("Processor", "Tobogganing", "1 worker, frames of 50, 200,000 ")
_TWO = ("Processor", "Tobogganing", "2 workers, frames of 50, 200,000 ")
_STORE = ("Exporter", "Tobogganing", "the store of 100,000 clients")
_STARTED = ("Exporter", "Tobogganing", "shard 1/1 of 100,000 clients")
_SCRAPE = ("Scrape", "Tobogganing", "100,000 clients, gzip")
_AT_ONCE = ("End to end", "Tobogganing", "20,000 a second")
_ASKED, _FLAT = "asked to reached", "memory, last quarter to second"
_US = "µs CPU"

GOALS = (
    Goal("Gateway, one a request, 32 connections", 60, _US, _of(*_BY_KEY, "cpu gateway")),
    Goal(
        "Gateway, one a request, 256 connections",
        60,
        _US,
        _of(*_ONE, "256 connections, API keys, 4 part", "cpu gateway"),
    ),
    Goal(
        "The same, 32 connections, to a plain function that keeps nothing",
        round(60 / _FLOOR_US, 2),
        "times its CPU",
        _ratio(_BY_KEY, (*_PLAIN, "32 connections"), "cpu", ("gateway", "Plain ASGI function")),
    ),
    Goal(
        "The same, 256 connections",
        round(60 / _FLOOR_US, 2),
        "times its CPU",
        _ratio(
            (*_ONE, "256 connections, API keys, 4 part"),
            (*_PLAIN, "256 connections"),
            "cpu",
            ("gateway", "Plain ASGI function"),
        ),
    ),
    Goal(
        "The same, 32 connections, to a Pushgateway without checks",
        1,
        "times its CPU",
        _ratio(
            _BY_KEY,
            ("Gateway", "Pushgateway, checks off", "32 connections"),
            "cpu",
            ("gateway", "Pushgateway, checks off"),
        ),
    ),
    Goal(
        "The same, 32 connections, to an OpenTelemetry Collector",
        1,
        "times its CPU",
        _ratio(
            _BY_KEY,
            ("Gateway", "OpenTelemetry", "32 connections"),
            "cpu",
            ("gateway", "OpenTelemetry Collector"),
        ),
        optional=True,
    ),
    Goal(
        "Gateway, a new connection for each",
        100,
        _US,
        _of(*_ONE, "a new connection", "cpu gateway"),
    ),
    Goal(
        "The same, to a plain function over kept connections",
        round(100 / _FLOOR_US, 2),
        "times its CPU",
        _ratio(
            (*_ONE, "a new connection"),
            (*_PLAIN, "32 connections"),
            "cpu",
            ("gateway", "Plain ASGI function"),
        ),
    ),
    Goal(
        "JWTs against API keys",
        1.1,
        "times",
        _ratio((*_ONE, "JWTs"), _BY_KEY, "cpu", ("gateway", "gateway")),
    ),
    Goal("Gateway, batches of 500", 3, _US, _of(*_MANY, "", "cpu gateway")),
    Goal(
        "The same, to a plain function",
        round(3 / _FLOOR_BATCH_US, 2),
        "times its CPU",
        _ratio(
            (*_MANY, ""),
            ("Gateway, batches", "Plain ASGI function", ""),
            "cpu",
            ("gateway", "Plain ASGI function"),
        ),
    ),
    Goal(
        "The same, to VictoriaMetrics",
        1,
        "times its CPU",
        _ratio(
            (*_MANY, ""),
            ("Gateway, batches", "VictoriaMetrics", ""),
            "cpu",
            ("gateway", "VictoriaMetrics"),
        ),
    ),
    Goal("Processor, frames of 50", 20, _US, _of(*_FRAMES, "cpu processor")),
    Goal(
        "The same: 40,000 a second to reached",
        1,
        "times",
        _quotient(lambda _: 40_000, _of(*_FRAMES, "per second")),
    ),
    Goal(
        "Processor, two workers against one",
        1.1,
        "times",
        _ratio(_TWO, _FRAMES, "cpu", ("processor", "processor")),
    ),
    Goal(
        "Processor, killed with 500,000 rows: back after",
        20,
        "s",
        _of("Recovery", "Tobogganing", "500,000 rows", "back_seconds"),
    ),
    Goal("Exporter, a row applied", 8, _US, _of(*_STORE, "apply_again_cpu_us")),
    Goal("Exporter, catching up with 1,000,000 rows", 12, "s", _of(*_STARTED, "ready_seconds")),
    Goal("Rendering 100,000 clients", 0.15, "s CPU", _of(*_STORE, "render_cpu_seconds")),
    Goal(
        "Scrape of 100,000 clients, gzip, over HTTP",
        0.3,
        "s",
        _of(*_SCRAPE, "seconds"),
    ),
    Goal(
        "The same, of clients whose values are all different",
        0.3,
        "s",
        _of(*_STARTED, "http_gzip_seconds"),
    ),
    Goal(
        "The same, to a Pushgateway",
        round(1 / 30, 3),
        "times its time",
        _quotient(_of(*_SCRAPE, "seconds"), _of("Scrape", "Pushgateway", "", "seconds")),
    ),
    Goal(
        "The same, to an OpenTelemetry Collector",
        round(1 / 30, 3),
        "times its time",
        _quotient(_of(*_SCRAPE, "seconds"), _of("Scrape", "OpenTelemetry", "", "seconds")),
        optional=True,
    ),
    Goal(
        "Exporter, memory a client beyond an empty one's, after scrapes",
        1600,
        "bytes",
        _of(*_STARTED, "bytes_per_client_at_most"),
    ),
    Goal(
        "Exporter, memory a client, all of it, of 100,000",
        1600,
        "bytes",
        _of(*_SCRAPE, "bytes a client"),
    ),
    Goal("End to end, 20,000 a second: asked to reached", 1.03, "times", _of(*_AT_ONCE, _ASKED)),
    Goal(
        "End to end, memory, last half minute to the second one",
        1.05,
        "times",
        _of(*_AT_ONCE, _FLAT),
    ),
    Goal(
        "Freshness p99, end to end",
        1000,
        "ms",
        _of(*_AT_ONCE, "fresh p99 ms"),
    ),
)


def missing(figures: Sequence[Measurements]) -> list[str]:
    """The aims of which nothing was measured."""
    return [
        target.text for target in GOALS if not target.optional and target.figure(figures) is None
    ]


def reached(figures: Sequence[Measurements]) -> list[Reached]:
    """How each aim that was measured came out."""
    found = []
    for target in GOALS:
        value = target.figure(figures)
        if value is not None:
            shown = f"{value:,.3g} {target.unit} (at most {target.most:g})"
            found.append(Reached(target.text, shown, value <= target.most))
    return found
