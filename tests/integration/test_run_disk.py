"""`tobogganing run` on disks that cannot be written reports the problem in one sentence."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tobogganing.devstack.ports import free_ports


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


def run(state: Path, **environ: str) -> str:
    """Run until it ends by itself; return its one line of output."""
    ended = subprocess.run(
        [sys.executable, "-m", "tobogganing", "run"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "STATE_DIR": str(state),
            "PORT": str(free_ports(1)[0]),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode in (1, 2), said
    assert "Traceback" not in said
    (line,) = ended.stderr.splitlines()
    return line


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        fill(disk)
        line = run(disk)
    assert "No space left on device" in line
    assert "STATE_DIR" in line


def test_a_disk_that_is_full_after_the_secrets_are_written(tmp_path: Path) -> None:
    """The broker's storage does not fit."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        line = run(disk)
    assert "is full" in line or "No space left on device" in line


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m,nr_inodes=2") as disk:
        line = run(disk)
    assert "No space left on device" in line


def test_a_read_only_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k,ro") as disk:
        line = run(disk)
    assert "Read-only file system" in line


@pytest.mark.parametrize("below", ["", "lock", "secrets", "kafka", "logs"])
def test_a_file_in_place_of_the_state_directory(tmp_path: Path, below: str) -> None:
    state = tmp_path / "state"
    place = state / below
    place.parent.mkdir(parents=True, exist_ok=True)
    if below == "lock":
        place.mkdir()
    else:
        place.touch()
    line = run(state)
    assert str(place) in line
    assert "STATE_DIR" in line


def test_a_full_cache(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as cache:
        fill(cache)
        line = run(tmp_path / "state", TOBOGGANING_CACHE=str(cache))
    assert "No space left on device" in line
    assert "TOBOGGANING_CACHE" in line
