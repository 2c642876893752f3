"""Each agent of examples/ by itself: its tests, queue, pauses and settings."""

import ast
import asyncio
import fcntl
import http.server
import itertools
import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import program_log, programs
from tests.deploy.agents import ExampleAgent
from tests.deploy.coverage_check import assert_all_exercised
from tests.deploy.fleet import EXAMPLES, NAMES, agent, go
from tobogganing.devstack.ports import free_ports

BOTH = "test_example_agents.py, test_examples.py"
EXERCISED = {
    "README.md": "test_examples.py",
    "go/cmd/*/*.go": BOTH,
    "go/go.mod": BOTH,
    "go/metrics/*.go": BOTH,
    "python/*.py": BOTH,
    "shell/*": BOTH,
}
"""Files of examples/, and the tests that run them."""


def test_every_file_of_examples_is_exercised() -> None:
    assert_all_exercised(EXAMPLES, EXERCISED)


def test_what_is_in_go_passes_its_own_tests() -> None:
    go("vet", "./...")
    assert "ok" in go("test", "-count=1", "./...")


def test_what_is_in_go_is_formatted_and_needs_nothing_else() -> None:
    gofmt = programs.go().path.with_name("gofmt")
    done = subprocess.run(
        [gofmt, "-l", EXAMPLES / "go"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    assert go("list", "-m", "all").split() == ["example.org/tobogganing-metrics"]


def test_the_shell_script_has_no_fault_that_shellcheck_knows() -> None:
    program = programs.shellcheck()
    program_log.note("shellcheck")
    done = subprocess.run(
        [
            program.path,
            *EXAMPLES.glob("shell/*.sh"),
        ],
        env=program.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout + done.stderr == ""


def test_the_python_client_is_of_python_3_9() -> None:
    (file,) = EXAMPLES.glob("python/*.py")
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.fixture(params=NAMES)
def away(request: pytest.FixtureRequest, go_binaries: Path, tmp_path: Path) -> ExampleAgent:
    """Each agent, without a manager."""
    manager = f"http://127.0.0.1:{free_ports(1)[0]}"
    return agent(request.param, go_binaries, tmp_path, manager)


async def test_a_full_queue_drops_the_oldest_and_counts(away: ExampleAgent) -> None:
    away.environ["QUEUE_MAX"] = "3"
    assert await away.once() == 1
    (oldest,) = away.waiting()
    for _ in range(2):
        assert await away.once() == 1
    for _ in range(2):
        assert await away.once() == 1
    waiting = away.waiting()
    assert len(waiting) == 3
    assert oldest not in waiting
    assert away.count("dropped") == 2
    assert "dropped" in away.log()


async def test_without_its_settings_it_says_which_and_ends(away: ExampleAgent) -> None:
    for name in ("MANAGER_URL", f"{away.kind.upper()}_ID", "API_KEY_FILE", "QUEUE_DIR"):
        value = away.environ.pop(name)
        assert await away.once() == 2
        assert f"{name} is not set" in away.log()
        away.environ[name] = value


async def test_a_label_that_is_none_is_said(away: ExampleAgent) -> None:
    away.environ["HEADLESS"] = "yes"
    headend = away.kind == "headend"  # which has no such label
    assert await away.once() == (1 if headend else 2)
    assert headend or "HEADLESS must be true or false" in away.log()


async def test_without_its_interface_it_says_so(away: ExampleAgent) -> None:
    away.environ["INTERFACE"] = "wg7"
    assert await away.once() == 1
    assert "no counters of INTERFACE wg7" in away.log()
    assert "Errno" not in away.log()
    assert not away.waiting()


async def test_what_a_kill_left_half_written_is_no_sample(away: ExampleAgent) -> None:
    assert await away.once() == 1
    (file,) = (away.folder / "queue/waiting").iterdir()
    scratch = file.with_name(file.name + ".new")
    scratch.write_text("{")
    assert await away.once() == 1
    assert len(away.waiting()) == 2
    assert not scratch.exists()


async def test_a_second_run_of_the_shell_client_ends_at_once(
    go_binaries: Path, tmp_path: Path
) -> None:
    client = agent("shell-client", go_binaries, tmp_path, "http://127.0.0.1:1")
    (client.folder / "queue").mkdir()
    with (client.folder / "queue/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert await client.once() == 0
    assert "another run is in progress" in client.log()
    assert not client.waiting()


class Busy(http.server.BaseHTTPRequestHandler):
    """An overloaded manager, which responds with Retry-After."""

    came: defaultdict[str, list[float]]

    def do_POST(self) -> None:
        self.came[self.path].append(time.monotonic())
        content = json.dumps({"error": "busy"}).encode()
        self.send_response(503)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.came = defaultdict(list)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_all_of_them_wait_as_long_as_they_are_asked_to(
    busy: str, go_binaries: Path, tmp_path: Path
) -> None:
    agents = [agent(name, go_binaries, tmp_path, busy, id=name) for name in NAMES]
    for each in agents:
        await each.start()
    async with asyncio.timeout(30):
        while len(Busy.came) < len(agents) or min(map(len, Busy.came.values())) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.gather(*(each.stop() for each in agents))
    for times in Busy.came.values():
        assert all(later - sooner >= 1 for sooner, later in itertools.pairwise(times))
