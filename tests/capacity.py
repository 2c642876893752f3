"""The figures of `tobogganing plan`, and docs/capacity.md: `python -m tests.capacity` writes both.

Run it after `python -m bench --publish`, which writes the tables that they come from, and after a
change of tobogganing/sizing.
"""

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from tests.published import FIGURES, shown
from tobogganing.cli.main import cli
from tobogganing.sizing import figures

PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
FILE = Path(figures.__file__)
_EXAMPLE = re.compile(r"<!-- plan: (.+?) -->\n.*?<!-- end -->", re.DOTALL)
_FIGURES = re.compile(r"<!-- figures -->\n.*?<!-- end -->", re.DOTALL)


def worked(page: str) -> str:
    """The page with what `plan` prints for each of its examples."""
    return _EXAMPLE.sub(lambda found: _example(found[1]), page)


def _example(options: str) -> str:
    ended = CliRunner().invoke(cli, ["plan", *options.split()])
    assert ended.exit_code == 0, ended.output
    lines = [f"    {line}".rstrip() for line in ended.output.rstrip().splitlines()]
    return f"<!-- plan: {options} -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"


def rewritten(module: str) -> str:
    """The text of figures.py with the figures of the published tables."""
    for name, cell in FIGURES.items():
        if (value := shown(cell)) is not None:
            module = re.sub(rf"(?m)^{name} = .*$", f"{name} = {float(f'{value:.4g}')}", module)
    return module


def tabulated(page: str) -> str:
    """The page with the table of all figures."""
    lines = ["| figure | value | table and row of performance.md |", "| --- | --- | --- |"]
    for name, cell in FIGURES.items():
        source = "*not in the last published run:* " if shown(cell) is None else ""
        source += f"{cell.table}: {cell.row.replace(' | ', ', ')}; {cell.column}"
        lines.append(f"| `{name}` | {getattr(figures, name):g} | {source} |")
    text = "<!-- figures -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"
    return _FIGURES.sub(lambda _: text, page)


def main() -> None:
    FILE.write_text(rewritten(FILE.read_text("utf-8")), "utf-8")
    # The modules have the old figures.
    code = "from tests.capacity import *; PAGE.write_text(tabulated(worked(PAGE.read_text())))"
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()
