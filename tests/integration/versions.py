"""Creates the next version of our packages: other version numbers and one more field each."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "service", "gateway", "processor", "exporter", "tobogganing")
CHANGES = (
    ("contract/frame.py", "\nFRAME_VERSION = 1\n", "\nFRAME_VERSION = 2\n"),
    ("contract/frame.py", 'b\'{"version":%d,', 'b\'{"version":%d,"made_by":"the next",'),
    ("contract/row.py", "\nROW_VERSION = 1\n", "\nROW_VERSION = 2\n"),
    ("contract/row.py", "    lost: Count = 0\n", "    lost: Count = 0\n    checked: Count = 7\n"),
)
"""File, its current text, and the text of the next version."""


def next_version(folder: Path) -> Path:
    """Create the next version in a folder; return its path."""
    code = folder / "next"
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, before, after in CHANGES:
        file = code / name
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name} has no longer one {before!r}"
        file.write_text(text.replace(before, after), encoding="utf-8")
    return code
