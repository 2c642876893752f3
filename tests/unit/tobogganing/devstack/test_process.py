import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tobogganing.devstack import process

FOREVER = ["sleep", "600"]
PARENT = """
import os, subprocess, sys
from tobogganing.devstack import process
child = process.start(["sleep", "600"], environ=os.environ, output=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


def start(command: list[str]) -> process.Process:
    return process.start(command, environ=os.environ, output=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait up to 10 s for `condition`."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return process.command_line(pid) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_child_ends_with_a_killed_parent() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: is_gone(child))


async def test_a_stop_sends_sigterm() -> None:
    child = start(FOREVER)
    assert await process.stop(child, patience=10) == -signal.SIGTERM


async def test_a_stop_kills_the_group_of_a_process_that_ignores_sigterm() -> None:
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait"
    child = process.start(["sh", "-c", script], environ=os.environ, output=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert await process.stop(child, patience=0.2) == -signal.SIGKILL
    child.stdout.close()
    wait_for(lambda: is_gone(grandchild))


async def test_a_child_has_its_own_group_and_the_given_environment() -> None:
    child = process.start(["env"], environ={"ONLY": "this"}, output=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        assert b"ONLY=this" in output.read().split(b"\n")
    assert await process.ended(child) == 0
    assert start(["true"]).wait() == 0


def test_exits_are_described() -> None:
    assert process.describe_exit(3) == "exit code 3"
    assert process.describe_exit(-9) == "signal SIGKILL"
    assert process.describe_exit(-99) == "signal 99"


async def test_a_stale_process_is_killed_only_with_proof(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = start(FOREVER)
    try:
        wait_for(lambda: process.command_line(child.pid) == "sleep 600")
        pid_file.write_text(str(child.pid))
        process.end_stale(pid_file, "sleep 601")
        assert child.poll() is None
        assert not pid_file.exists()

        pid_file.write_text(str(child.pid))
        process.end_stale(pid_file, "sleep 600")
        assert await process.ended(child) == -signal.SIGKILL
        assert not pid_file.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()


@pytest.mark.parametrize("content", [None, "", "x", str(2**22 + 1)])
def test_an_unusable_pid_file_kills_nothing(tmp_path: Path, content: str | None) -> None:
    pid_file = tmp_path / "pid"
    if content is not None:
        pid_file.write_text(content)
    process.end_stale(pid_file, "sleep")
