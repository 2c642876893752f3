"""Real shells: completion as docs/cli.md sets it up, and the lines that `make run` prints."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tests.debian import unpacked
from tobogganing.devstack.banner import banner
from tobogganing.devstack.run_config import CHECKOUT, read_run_config
from tobogganing.devstack.secrets import SecretSource

BIN = Path(sys.executable).parent
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def documented(shell: str) -> str:
    """The line of docs/cli.md for a shell."""
    (line,) = re.findall(rf"^    (.*\S) +# {shell}: ", DOCS.read_text("utf-8"), re.MULTILINE)
    return str(line)


@pytest.fixture
def fish(tmp_path: Path) -> list[str | Path]:
    """The command of a fish, which finds its own files next to its binary."""
    program, common, *libraries = unpacked("fish", "fish-common", "libpcre2-32-0", "libtinfo6")
    tree = tmp_path / "fish"
    for name, target in (("share", "usr/share/fish"), ("etc", "etc/fish")):
        (tree / name).mkdir(parents=True)
        (tree / name / "fish").symlink_to(common / target)
    (tree / "bin").mkdir()
    shutil.copy(program / "usr/bin/fish", tree / "bin/fish")
    folders = {file.parent for each in libraries for file in each.rglob("lib*.so*")}
    return ["env", f"LD_LIBRARY_PATH={':'.join(map(str, folders))}", tree / "bin/fish"]


@pytest.fixture
def zsh() -> list[str | Path]:
    """The command of a zsh without a configuration."""
    program, common = unpacked("zsh-static", "zsh-common")
    functions = common / "usr/share/zsh/functions"
    folders = [functions, *(each for each in functions.rglob("*") if each.is_dir())]
    return ["env", f"FPATH={':'.join(map(str, folders))}", program / "bin/zsh-static", "-f"]


def environ(home: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def typed(command: list[str | Path], home: Path, lines: list[str], until: str) -> str:
    """Type into a shell on a terminal; what the terminal shows, until it contains `until`."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environ(home), start_new_session=True
    ) as process:
        os.close(child)
        shown, deadline = "", time.monotonic() + 60
        try:
            for line in lines:
                os.write(parent, line.encode())
            while until not in shown and time.monotonic() < deadline:
                if select.select([parent], [], [], 1)[0]:
                    with contextlib.suppress(OSError):
                        shown += click.unstyle(os.read(parent, 65536).decode(errors="replace"))
        finally:
            process.kill()
            os.close(parent)
    assert until in shown, shown
    return shown


def test_zsh_without_a_configuration_completes(zsh: list[str | Path], tmp_path: Path) -> None:
    lines = [f"{documented('zsh')}\n", "tobogganing ledg\t", "--hel\t\n"]
    shown = typed([*zsh, "-i"], tmp_path, lines, "Usage: tobogganing ledger")
    assert "command not found" not in shown


def test_zsh_with_compinit_starts_it_only_once(zsh: list[str | Path], tmp_path: Path) -> None:
    script = (
        "autoload -Uz compinit && compinit -i\n"
        "compinit() { print again }\n"
        f"{documented('zsh')}\n"
        "print $_comps[tobogganing]"
    )
    shown = subprocess.run(
        [*zsh, "-c", script], env=environ(tmp_path), capture_output=True, text=True, check=True
    )
    assert (shown.stdout, shown.stderr) == ("_tobogganing_completion\n", "")


def test_fish_shows_whole_descriptions(fish: list[str | Path], tmp_path: Path) -> None:
    script = f'{documented("fish")}\ncomplete -C "tobogganing aud"\n'
    script += 'complete -C "tobogganing ledger --"'
    shown = subprocess.run(
        [*fish, "-c", script], env=environ(tmp_path), capture_output=True, text=True, check=True
    )
    assert shown.stderr == ""
    found = dict(line.split("\t", 1) for line in shown.stdout.splitlines())
    assert found["audit"].startswith("List administrative changes: who, what,"), found
    assert found["--url"] == "URL of the gateway or exporter. Default: the local run's."
    assert found["--metrics-token-file"].endswith("environment's, else the local run's.")


def test_bash_completes(tmp_path: Path) -> None:
    lines = [f"{documented('bash')}\n", "tobogganing ledg\t", "--hel\t\n"]
    typed(["bash", "--norc", "-i"], tmp_path, lines, "Usage: tobogganing ledger")


def check_setup(command: list[str | Path], home: Path, show: str) -> None:
    """The printed setup makes `tobogganing`, and the files of the checkout, known to a shell."""
    state = home / "a state"
    config = read_run_config({"STATE_DIR": str(state)})
    secrets = [SecretSource(name, None) for name in ("METRICS_TOKEN", "ADMIN_TOKEN")]
    text = banner(config, secrets, "127.0.0.1:9092")
    setup = text[text.index("\ncd ") : text.index("\n\nRegister")]
    shown = subprocess.run(
        [*command, "-c", f"{setup}\n{show}"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = BIN / "tobogganing"
    assert shown.stdout == f"{CHECKOUT}|{state}|{here}|{BIN}:/usr/bin:/bin|"


SHOW = 'printf "%s|" "$PWD" "$STATE_DIR" "$(command -v tobogganing)" "$PATH"'


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_printed_setup_works(shell: str, tmp_path: Path) -> None:
    check_setup([shell], tmp_path, SHOW)


def test_the_printed_setup_works_in_zsh(zsh: list[str | Path], tmp_path: Path) -> None:
    check_setup(zsh, tmp_path, SHOW)


def test_the_printed_setup_works_in_fish(fish: list[str | Path], tmp_path: Path) -> None:
    show = 'printf "%s|" "$PWD" "$STATE_DIR" (command -v tobogganing) "$PATH"'
    check_setup(fish, tmp_path, show)
