"""docs/metrics.md shows exactly the families that the code declares."""

from pathlib import Path

import pytest

from tests.unit.families import SECTIONS, table

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def tables() -> dict[str, str]:
    """Heading -> the table of families below it."""
    found: dict[str, str] = {}
    for section in DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        rows = [line for line in text.splitlines() if line.startswith("|")]
        if rows and rows[0].startswith("| Metric |"):
            found[heading] = "\n".join(rows)
    return found


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_table_is_what_the_code_declares(heading: str) -> None:
    assert tables()[heading] == table(SECTIONS[heading]())


def test_there_are_no_other_tables() -> None:
    assert set(tables()) == set(SECTIONS)


def test_no_family_is_declared_twice() -> None:
    names = [row[0] for families in SECTIONS.values() for row in families()]
    assert len(names) == len(set(names))
