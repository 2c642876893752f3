"""The wheel, installed as `pipx install` does, and used in an empty folder."""

import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.e2e.local_run import LocalRun
from tests.long import IS_LONG

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("wheel")


def _run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has only the wheel and its dependencies.

    Its short form takes the dependencies from the environment of the tests.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in _run("git", "ls-files", folder=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    wheel = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    _run(sys.executable, *wheel, "--wheel-dir", folder, source, folder=folder)
    (built,) = folder.glob("*.whl")
    # The tested versions, without the hashes, which would be needed of the wheel too.
    pinned = (ROOT / "requirements" / "runtime.txt").read_text("utf-8")
    (folder / "versions.txt").write_text(
        "\n".join(re.findall(r"^[A-Za-z0-9_.-]+==[^\\\n]+", pinned, re.MULTILINE))
    )
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    _run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"),
        *("--disable-pip-version-check", "--constraint", folder / "versions.txt"),
        *(() if IS_LONG else ("--no-deps",)),
        built,
        folder=folder,
    )
    if not IS_LONG:
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_the_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with LocalRun(folder / ".state", tree=folder, program=installed) as run:
        run.until_ready()
        assert f'export PATH={installed.parent}:"$PATH"' in run.output
        assert "STATE_DIR" not in run.output, "it is in the working directory by default"
        setup = run.output[run.output.index("\ncd ") : run.output.index("\n\nRegister")]
        assert "tobogganing_client_bytes_sent" in run.paste(setup)
        assert "Test client" in run.shell(f"{setup}\ntobogganing clients list")
        assert run.end(signal.SIGTERM) == 0
    assert [file.name for file in folder.iterdir()] == [".state"]


def test_the_wheel_has_the_alert_rules(installed: Path, tmp_path: Path) -> None:
    print_folder = "from tobogganing.devstack.prometheus import rules_folder; print(rules_folder())"
    found = Path(_run(installed, "-c", print_folder, folder=tmp_path).strip())
    own = ROOT / "deploy" / "prometheus" / "rules"
    assert {file.name for file in found.glob("*.yml")} == {file.name for file in own.iterdir()}
