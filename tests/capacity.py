"""The examples of docs/capacity.md: `python -m tests.capacity` writes them again.

Run it after a change of tobogganing/sizing.py.
"""

import re
from pathlib import Path

from click.testing import CliRunner

from tobogganing.cli.main import cli

PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
_EXAMPLE = re.compile(r"<!-- plan: (.+?) -->\n.*?<!-- end -->", re.DOTALL)


def worked(page: str) -> str:
    """The page with what `plan` prints for each of its examples."""
    return _EXAMPLE.sub(lambda found: _example(found[1]), page)


def _example(options: str) -> str:
    ended = CliRunner().invoke(cli, ["plan", *options.split()])
    assert ended.exit_code == 0, ended.output
    lines = [f"    {line}".rstrip() for line in ended.output.rstrip().splitlines()]
    return f"<!-- plan: {options} -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"


if __name__ == "__main__":
    PAGE.write_text(worked(PAGE.read_text("utf-8")), "utf-8")
