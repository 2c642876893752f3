"""A run's figures as JSON and Markdown tables; docs/performance.md shows those of a whole run."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.goals import reached
from bench.open_loop_driver import BASELINE, SUBJECT, SYSTEM
from bench.rounds import CPU, IDLE, Measurements, ratio

MARK = "<!-- bench: {} -->"
END = "<!-- end -->"


def write(folder: Path, machine: list[tuple[str, str]], figures: Sequence[Measurements]) -> str:
    """Write `bench.json` and `bench.md` into a folder; return the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {"machine": dict(machine), "figures": [asdict(each) for each in figures]}
    (folder / "bench.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    parts = [f"## {name}\n\n{text}" for name, text in sections(machine, figures).items()]
    tables = "\n\n".join(parts) + "\n"
    (folder / "bench.md").write_text(tables, encoding="utf-8")
    return tables


def publish(page: Path, sections: dict[str, str]) -> None:
    """Replace the text between the marks of each section in a page.

    Raises:
        ValueError: the page has no such mark.
    """
    text = page.read_text(encoding="utf-8")
    for name, section in sections.items():
        before, mark, rest = text.partition(MARK.format(name))
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise ValueError(f"{page} has no mark {name!r}")
        text = f"{before}{mark}\n\n{section}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def sections(machine: list[tuple[str, str]], figures: Sequence[Measurements]) -> dict[str, str]:
    """Tables by section name."""
    found = {"Machine": _table(["", ""], [list(line) for line in machine])}
    goals = [[each.text, each.value, "yes" if each.met else "**no**"] for each in reached(figures)]
    if goals:
        found["Targets"] = _table(["what", "reached", "met"], goals)
    for subject in dict.fromkeys(each.subject for each in figures):
        ours = [each for each in figures if each.subject == subject]
        if subject == SUBJECT:
            found[subject] = _one_by_one(ours)
        else:
            found[subject] = _submissions(ours) if "p50 ms" in ours[0].figures else _plain(ours)
    return found


def _submissions(figures: Sequence[Measurements]) -> str:
    """One line a case: cost and speed of submissions."""
    first = figures[0].total()
    rows = [
        [
            each.system,
            each.case,
            _parts(each.parts(), 1),
            f"{sum(each.parts().values()):,.1f}",
            f"{ratio(each.total(), first):.2f}",
            f"{each.median('per second'):,.0f}",
            f"{each.median('p50 ms'):.1f}",
            f"{each.median('p99 ms'):.1f}",
        ]
        for each in figures
    ]
    heads = ["system", "load", "µs CPU a submission", "in all", "to the first", "a second"]
    return _table([*heads, "p50 ms", "p99 ms"], rows)


def _one_by_one(figures: Sequence[Measurements]) -> str:
    """One line a system and load: cost, the ratio to the baseline, and delays."""
    baseline = {each.case: each for each in figures if each.system.endswith(BASELINE)}
    rows = []
    for each in figures:
        prefix, digits, unit = (CPU, 0, "") if each.parts() else (IDLE, 1, f" {IDLE.strip()}")
        parts = each.parts(prefix)
        to = baseline.get(each.case) if each.system == SYSTEM else None
        rows.append(
            [
                each.system,
                each.case,
                _parts(parts, digits) + unit,
                f"{sum(parts.values()):,.{digits}f}{unit}",
                f"{ratio(each.total(prefix), to.total(prefix)):.2f}" if to else "",
                *(_delays(each, kind) for kind in ("answer", "fresh")),
            ]
        )
    heads = ["system", "load", "µs CPU a submission", "in all", f"to {BASELINE}"]
    return _table([*heads, "response p50, p99 ms", "freshness p50, p99 ms"], rows)


def _parts(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{name} {value:,.{digits}f}" for name, value in values.items())


def _delays(figures: Measurements, kind: str) -> str:
    names = [f"{kind} {share} ms" for share in ("p50", "p99")]
    if not set(names) <= figures.figures.keys():
        return ""
    return ", ".join(f"{figures.median(name):,.3g}" for name in names)


def _plain(figures: Sequence[Measurements]) -> str:
    """One line a figure, one column a case."""
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
