"""Creates other versions of our packages: 0.1.0, the one before histories, and the next one."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "service", "gateway", "processor", "exporter", "tobogganing")
FIRST_VERSION = "116087eb40753ef6eec918f8da419b8125cd6a29"
"""The commit of 0.1.0. It has the same versions of Faust, aiokafka and mode."""
CHANGES = (
    ("contract/frame.py", "\nFRAME_VERSION = 1\n", "\nFRAME_VERSION = 2\n"),
    ("contract/frame.py", 'b\'{"version":%d,', 'b\'{"version":%d,"made_by":"the next",'),
    ("contract/row.py", "\nROW_VERSION = 1\n", "\nROW_VERSION = 2\n"),
    (
        "contract/ledger.py",
        "    lost: Count = 0\n",
        "    lost: Count = 0\n    checked: Count = 7\n",
    ),
)
"""File, its current text, and the text of the next version."""

CHANGES_TO_OLDER = (
    (
        "contract/ledger.py",
        "def encode_ledger_row(row: LedgerRow) -> bytes:\n",
        """def encode_ledger_row(row: LedgerRow) -> bytes:
    row.version = ROW_VERSION
    kept = ("version", "offset", "read", "applied", "stale", "late", "dead_lettered", "lost")
    return _encoder.encode({name: getattr(row, name) for name in kept})
""",
    ),
    (
        "contract/ledger.py",
        "    row = decode_row(_decoder, value, CUT_LEDGER_VERSION)\n",
        """    row = decode_row(_decoder, value)
    row.mark, row.newest, row.histories, row.parted = None, 0, (), 0
    row.epochs, row.uncounted = (), ()
""",
    ),
    (
        "processor/core/source_history.py",
        "    topic = known_topic(ledger)\n    if topic is None:\n",
        "    topic = known_topic(ledger)\n    return Same()\n    if topic is None:\n",
    ),
)
"""The same for the version before histories."""

CHANGES_TO_BEFORE_TOTALS = (
    (
        "processor/core/frame_reducer.py",
        "        if growth and counters is not None:\n",
        "        if False:\n",
    ),
    (
        "processor/table/expiry.py",
        "            if value is None or is_total_key(key):\n",
        "            if value is None:\n",
    ),
    (
        "exporter/state/store.py",
        "            if is_total_key(key):\n",
        "            if False:\n",
    ),
    (
        "tobogganing/backup/create.py",
        "        if is_total_key(key):  # another installation counts from 0\n",
        "        if False:\n",
    ),
)
"""The same for the version before totals."""


def first_version(folder: Path) -> Path:
    """Extract the packages of 0.1.0 from the history of this repository; return the directory."""
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", FIRST_VERSION, *PACKAGES], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder / "first", filter="data")
    return folder / "first"


def next_version(folder: Path) -> Path:
    """Create the next version in a folder; return its path."""
    return changed_version(folder / "next", CHANGES)


def older_version(folder: Path) -> Path:
    """Create the version before histories: no marks in ledgers, and no comparison with
    the source."""
    return changed_version(folder / "older", CHANGES_TO_OLDER)


def before_totals(folder: Path) -> Path:
    """Create the version before totals: it takes them for rows that it cannot read."""
    return changed_version(folder / "before-totals", CHANGES_TO_BEFORE_TOTALS)


def changed_version(code: Path, changes: Iterable[tuple[str, str, str]]) -> Path:
    """Copy our packages and change them; return the directory."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, before, after in changes:
        file = code / name
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name} has no longer one {before!r}"
        file.write_text(text.replace(before, after), encoding="utf-8")
    return code
