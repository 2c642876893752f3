"""Whether every file of a folder is exercised by a test."""

from collections.abc import Mapping
from pathlib import Path

from tests.deploy.compose import ROOT


def assert_all_exercised(folder: Path, exercised: Mapping[str, str]) -> None:
    """Fail if `exercised` (patterns below the folder, with their tests) omits a file."""
    files = {file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    covered = {pattern: set(folder.glob(pattern)) for pattern in exercised}
    assert all(covered.values())
    assert files == set().union(*covered.values())
    for tests in exercised.values():
        assert all((ROOT / "tests/deploy" / test).is_file() for test in tests.split(", "))
