"""The example agents, built and configured."""

import subprocess
import sys
from pathlib import Path

from tests.deploy import program_log, programs
from tests.deploy.agents import ExampleAgent, Repeated
from tests.deploy.compose import ROOT

EXAMPLES = ROOT / "examples"
NAMES = ("go-client", "go-headend", "python-client", "shell-client")
ONE_RUN = {"RUN_SECONDS": "0", "SPREAD_SECONDS": "0"}
"""For the shell client: one attempt, without a delay."""


def go(*words: str) -> str:
    """Run a Go command in the module; return its output."""
    program_log.note("go")
    done = subprocess.run(
        [programs.go().path, *words],
        cwd=EXAMPLES / "go",
        env=programs.go_environ(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path) -> Path:
    """Build the Go programs; return their folder."""
    go("build", "-o", f"{folder}/", "./cmd/...")
    return folder


def agent(
    name: str, binaries: Path, folder: Path, manager: str, id: str = "a", key: str = "a-key"
) -> ExampleAgent:
    """The example of this name, with a folder of its own."""
    folder = folder / name
    folder.mkdir()
    (folder / "key").write_text(key + "\n")
    environ = {"MANAGER_URL": manager}
    match name:
        case "go-client":
            return ExampleAgent("client", id, [binaries / "client"], "-once", folder, environ)
        case "go-headend":
            return ExampleAgent("headend", id, [binaries / "headend"], "-once", folder, environ)
        case "python-client":
            python = [sys.executable, "-I", str(EXAMPLES / "python/submit_metrics.py")]
            return ExampleAgent("client", id, python, "--once", folder, environ)
        case _:
            shell = [str(programs.busybox()), "sh", str(EXAMPLES / "shell/submit_metrics.sh")]
            return Repeated("client", id, shell, "", folder, ONE_RUN | environ)
