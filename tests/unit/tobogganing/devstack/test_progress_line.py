import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tobogganing.devstack import progress_line
from tobogganing.devstack.pip_install import PipError, pip_install
from tobogganing.devstack.progress_line import ProgressLine


def _wheel(folder: Path) -> Path:
    """A package with one module."""
    file = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n")
    return file


def test_a_long_step_is_never_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert progress_line.REDRAW <= progress_line.LINES < 12
    monkeypatch.setattr(progress_line, "LINES", 0.01)
    with ProgressLine("Downloading", lambda: "7 of 9 MB") as line:
        line._ended.wait(0.2)
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Downloading"
    assert second == "Downloading: 7 of 9 MB, 0 s"
    assert last == "Downloading: done after 0 s"


def test_a_step_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), ProgressLine("Downloading"):
        raise ValueError("x")
    assert capsys.readouterr().err.splitlines()[-1] == "Downloading: failed after 0 s"


def test_packages_are_installed_with_one_line_of_progress(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    pip_install(
        "Installing", target, ["--no-index", "--target", str(target), str(_wheel(tmp_path))]
    )
    assert (target / "tiny.py").exists()
    said = capfd.readouterr()
    assert said.out == ""
    assert {line.partition(":")[0] for line in said.err.splitlines()} == {"Installing"}


def test_of_a_failure_pips_own_words_are_shown(tmp_path: Path) -> None:
    with pytest.raises(PipError, match="No matching distribution found for tiny"):
        pip_install("Installing", tmp_path, ["--no-index", "tiny"])


def test_the_command_has_the_status_of_what_it_runs() -> None:
    module = "tobogganing.devstack.progress_line"
    for status in (0, 3):
        command = [sys.executable, "-m", module, "Waiting", "sh", "-c", f"exit {status}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == status
        assert ended.stderr.splitlines()[-1].startswith(
            f"Waiting: {'failed' if status else 'done'}"
        )


def test_ctrl_c_stops_the_command_without_a_traceback(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    command = [sys.executable, "-m", "tobogganing.devstack.progress_line", "Making .venv"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        deadline = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    end = r"Making \.venv: stopped after \d+ s\nStopped before the start was complete\.\n$"
    assert re.search(end, said), said
    assert "Traceback" not in said
    assert "failed" not in said
