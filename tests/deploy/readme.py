"""The commands of examples/README.md."""

import re
from pathlib import Path


def commands(readme: Path) -> dict[str, list[str]]:
    """The lines of the code blocks, by their heading."""
    found: dict[str, list[str]] = {}
    sections = re.split(r"^## ", readme.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in sections:
        heading = section.partition("\n")[0]
        blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        if blocks:
            found[heading] = "".join(blocks).splitlines()
    return found
