"""A run's figures as JSON, tables and plots; docs/performance.md shows those of a whole run."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.goals import reached
from bench.plot import log_plot
from bench.rounds import Measurements

MARK = "<!-- bench: {} -->"
END = "<!-- end -->"


def write(folder: Path, machine: list[tuple[str, str]], figures: Sequence[Measurements]) -> Path:
    """Write `bench.json`, `bench.md` and the plots into a folder; return the tables' file."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {"machine": dict(machine), "figures": [asdict(each) for each in figures]}
    (folder / "bench.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    for name, text in plots(figures).items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
    tables = folder / "bench.md"
    parts = [f"## {name}\n\n{text}" for name, text in sections(machine, figures).items()]
    tables.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return tables


def publish(page: Path, sections: dict[str, str]) -> None:
    """Put each section between its marks in a page.

    Raises:
        ValueError: the page has no such mark.
    """
    text = page.read_text(encoding="utf-8")
    for name, section in sections.items():
        before, mark, rest = text.partition(MARK.format(name))
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise ValueError(f"{page} has no place for {name!r}")
        text = f"{before}{mark}\n\n{section}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def sections(machine: list[tuple[str, str]], figures: Sequence[Measurements]) -> dict[str, str]:
    """Tables by the names of their places."""
    found = {"Machine": _table(["", ""], [list(line) for line in machine])}
    aims = [[each.text, each.value, "yes" if each.met else "**no**"] for each in reached(figures)]
    if aims:
        found["Targets"] = _table(["what", "reached", "met"], aims)
    for subject in dict.fromkeys(each.subject for each in figures):
        ours = [each for each in figures if each.subject == subject]
        found[subject] = _submissions(ours) if "p50 ms" in ours[0].figures else _plain(ours)
    return found


def plots(figures: Sequence[Measurements]) -> dict[str, str]:
    """Plots by the names of their files, of what the growing pipeline gave."""
    grown = [each for each in figures if each.subject == "Growth"]
    if not grown:
        return {}
    cpu: dict[str, list[tuple[float, float]]] = {}
    memory: dict[str, list[tuple[float, float]]] = {}
    for each in grown:
        size = each.median("entities")
        for name, spent in each.cpu.items():
            cpu.setdefault(name, []).append((size, max(spent * size / 1e6, 0.01)))
        scrape = max(each.median("scrape CPU seconds"), 0.01)
        cpu.setdefault("one scrape", []).append((size, scrape))
        for name in ("gateway", "processor", "exporter"):
            memory.setdefault(name, []).append((size, each.median(f"MB {name}")))
    across = "clients, each of which submits once"
    return {
        "growth-cpu": log_plot("CPU time of one round", across, "seconds", cpu),
        "growth-memory": log_plot("Memory", "clients", "megabytes", memory),
    }


def _submissions(figures: Sequence[Measurements]) -> str:
    """Cost and speed of submissions, and each cost as a multiple of the first line's."""
    rows = []
    for each in figures:
        total = sum(each.cpu.values())
        parts = ", ".join(f"{name} {value:.1f}" for name, value in each.cpu.items())
        rows.append(
            [
                each.system,
                each.case,
                parts,
                f"{total:.1f}",
                f"{each.times(figures[0], 'cpu'):.2f}",
                f"{each.median('per second'):,.0f}",
                f"{each.median('p50 ms'):.1f}",
                f"{each.median('p99 ms'):.1f}",
            ]
        )
    heads = ["system", "load", "µs CPU a submission", "in all", "to the first", "a second"]
    return _table([*heads, "p50 ms", "p99 ms"], rows)


def _plain(figures: Sequence[Measurements]) -> str:
    """Every figure's median, one column a case."""
    names = list(dict.fromkeys(name for each in figures for name in each.figures))
    heads = ["", *(f"{each.system}, {each.case}" for each in figures)]
    rows = [
        [
            re.sub("^cpu (.*)", r"\1, µs CPU a submission", name),
            *(_number(each.median(name)) if name in each.figures else "" for each in figures),
        ]
        for name in names
    ]
    return _table(heads, rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
