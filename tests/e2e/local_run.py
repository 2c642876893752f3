"""`tobogganing run` as a user starts it: a real process with its terminal and its parts."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tobogganing.devstack.ports import free_ports

PATIENCE = 60.0
POLL = 0.1
"""Seconds between two looks, most of which start a program."""
SHOWN = re.compile(r'tobogganing_client_bytes_sent\{client_id="(test-client-\d+)".*\} 1000')
"""The sample in the output of the printed block."""
PARTS = {
    "kafka": "kafka.Kafka",
    "processor": "tobogganing processor",
    "serve": "tobogganing serve",
}
"""A part of each component's command line."""
SETTINGS = (
    "ADMIN_TOKEN",
    "CA_PEM",
    "HOST",
    "KAFKA_BOOTSTRAP_SERVERS",
    "LOG_FORMAT",
    "METRICS_TOKEN",
    "PROMETHEUS",
    "SIGNING_KEYS_DIR",
    "TLS_CERTIFICATE",
    "TLS_KEY",
)


def wait_for(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for `condition`; fail with `what` if it does not hold in time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(POLL)


def processes() -> dict[int, tuple[int, str]]:
    """Every process of this machine: its parent and its command line. Zombies are none."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,command="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split(None, 3) for line in listing.stdout.splitlines())
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if not row[2].startswith("Z")}


class LocalRun:
    """A run on the folder `state`; a context manager that leaves no process behind.

    `tree` is its source tree, by default that of these tests.
    """

    def __init__(
        self,
        state: Path,
        port: int | None = None,
        environ: Mapping[str, str] | None = None,
        tree: Path | None = None,
        restore: Path | None = None,
        program: Path = Path(sys.executable),
    ) -> None:
        self.state = state
        self.port = port or free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = ""
        self._tree = tree
        self._program = program
        self._words = ["run"] if restore is None else ["run", "--restore", str(restore)]
        kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        self._environ = kept | {"STATE_DIR": str(state), "PORT": str(self.port), **(environ or {})}

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [self._program, "-m", "tobogganing", *self._words],
            cwd=self._tree,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if error is not None:
            error.add_note(f"it said:\n{self.output[-6000:]}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until_said(self, text: str) -> None:
        """Wait until `text` was printed; fail if the run ends first."""
        wait_for(lambda: text in self.output or self.process.poll() is not None, f"{text!r}")
        self._reader.join(5 if self.process.poll() is not None else 0)
        assert text in self.output, f"ended without saying {text!r}"

    def until_ready(self) -> None:
        self.until_said("Ctrl-C stops everything")

    def paste(self, setup: str = "") -> str:
        """Run the whole printed block, as a new user does; return its output if it succeeds."""
        block = self.output[self.output.index("CLIENT_ID=") : self.output.rindex("Ctrl-C stops")]
        return self.shell(f"{setup}\n{block}")

    def shell(self, commands: str) -> str:
        """Run commands in another terminal; return their output."""
        shown = subprocess.run(
            ["sh", "-c", commands], capture_output=True, text=True, timeout=60, check=False
        )
        return shown.stdout

    def until_shown(self, what: str) -> None:
        """Wait until the printed block shows its client."""
        wait_for(lambda: SHOWN.search(self.paste()) is not None, what)

    def get(self, path: str) -> str:
        """GET a path with METRICS_TOKEN."""
        headers = {"Authorization": f"Bearer {self.secret('METRICS_TOKEN')}"}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def left_running(self) -> list[str]:
        """Return the command lines of this run's brokers that still run."""
        return [
            command
            for _, command in processes().values()
            if str(self.state) in command and "kafka.Kafka" in command
        ]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command during the run, as in another terminal."""
        return subprocess.run(
            [sys.executable, "-m", "tobogganing", *words],
            cwd=self._tree,
            env=self._environ | {"TOBOGGANING_URL": self.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def part(self, name: str) -> int | None:
        """The process id of a part; None if it does not run."""
        for pid, (parent, command) in processes().items():
            if parent == self.process.pid and PARTS[name] in command:
                return pid
        return None

    def kill(self, name: str) -> None:
        """Kill a part."""
        pid = self.part(name)
        assert pid, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)

    def secret(self, name: str) -> str:
        return (self.state / "secrets" / name).read_text()

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the run, as a terminal or a service manager does; return its exit
        status."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(10)
        return code
