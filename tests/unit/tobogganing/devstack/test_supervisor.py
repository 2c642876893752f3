import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tobogganing.devstack import process
from tobogganing.devstack.supervisor import RestartBackoff, SupervisedPart, Supervisor


class Script:
    """A shell script as a part, which reports its events in a file."""

    def __init__(self, folder: Path, name: str, body: str) -> None:
        self.told = folder / "told"
        self.launched: list[process.Process] = []
        self.codes: list[int] = []
        script = body.replace("TELL", f"echo {name} $$ >>'{self.told}'")
        self.part = SupervisedPart(name, lambda: self._launch(script), self.codes.append)

    def _launch(self, script: str) -> process.Process:
        child = process.start(["sh", "-c", script], environ=os.environ, output=subprocess.DEVNULL)
        self.launched.append(child)
        return child

    async def until_told(self, lines: int) -> list[str]:
        """The reported names, when there are `lines` of them."""
        async with asyncio.timeout(10):
            while True:
                told = self.told.read_text().splitlines() if self.told.exists() else []
                if len(told) >= lines:
                    return [line.split()[0] for line in told]
                await asyncio.sleep(0.01)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def supervisor(said: list[str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(said.append)
    yield supervisor
    await supervisor.stop(patience=0.5)


RUNS = "TELL; exec sleep 600"
TELLS_ITS_END = "trap 'TELL; exit 0' TERM; TELL; sleep 600 & wait"
IGNORES_TERM = "trap '' TERM; TELL; sleep 600 & wait; sleep 600"


async def test_a_part_that_ends_is_restarted_at_once_with_the_cause(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    script = Script(tmp_path, "worker", RUNS)
    supervisor.start(script.part)
    await script.until_told(1)
    script.launched[0].kill()
    await script.until_told(2)
    assert said == ["worker died (signal SIGKILL): starting it again now"]
    assert script.codes == [-9]
    assert script.launched[1].poll() is None


async def test_a_part_that_ends_repeatedly_is_restarted_later(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    script = Script(tmp_path, "worker", "TELL; exit 3")
    supervisor.start(script.part)
    await script.until_told(3)
    assert said[0] == "worker died (exit code 3): starting it again now"
    assert said[1] == "worker died (exit code 3): starting it again in 1 s"


async def test_a_failed_launch_is_repeated(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    script = Script(tmp_path, "worker", RUNS)
    fails = iter([False, True, False])

    def launch() -> process.Process:
        if next(fails):
            raise OSError("no memory")
        return script.part.launch()

    supervisor.start(SupervisedPart("worker", launch))
    await script.until_told(1)
    script.launched[0].kill()
    await script.until_told(2)
    assert said[1] == "worker died (no memory): starting it again in 1 s"


async def test_parts_stop_in_order_the_last_one_first(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    scripts = [Script(tmp_path, name, TELLS_ITS_END) for name in ("kafka", "processor", "serve")]
    for count, script in enumerate(scripts, 1):
        supervisor.start(script.part)
        await script.until_told(count)
    await supervisor.stop()
    told = await scripts[0].until_told(6)
    assert told[3:] == ["serve", "processor", "kafka"]
    assert [script.codes for script in scripts] == [[0], [0], [0]]
    assert said == []


async def test_a_part_that_ignores_sigterm_is_killed_in_time(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    polite, rude = Script(tmp_path, "kafka", TELLS_ITS_END), Script(tmp_path, "serve", IGNORES_TERM)
    supervisor.start(polite.part)
    await polite.until_told(1)
    supervisor.start(rude.part)
    await polite.until_told(2)
    async with asyncio.timeout(5):
        await supervisor.stop(patience=1.5)
    assert (polite.codes, rude.codes) == ([0], [-9])
    assert said == ["serve did not stop in time: killed"]


async def test_nothing_is_restarted_during_a_stop(tmp_path: Path, supervisor: Supervisor) -> None:
    script = Script(tmp_path, "worker", "TELL; exit 3")
    supervisor.start(script.part)
    await script.until_told(2)
    await supervisor.stop()
    # The next restart was due after a second; no task is left for it.
    assert all(child.poll() is not None for child in script.launched)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "keep worker"]


async def test_kill_ends_everything_at_once(tmp_path: Path, supervisor: Supervisor) -> None:
    script = Script(tmp_path, "serve", IGNORES_TERM)
    supervisor.start(script.part)
    await script.until_told(1)
    supervisor.kill()
    async with asyncio.timeout(5):
        assert await process.ended(script.launched[0]) == -9


def test_backoff_grows_to_its_limit() -> None:
    backoff = RestartBackoff()
    assert [backoff.delay(0.1) for _ in range(8)] == [0, 1, 2, 3, 4, 5, 5, 5]


@given(st.lists(st.floats(0, 1000)))
def test_backoff_is_bounded_and_zero_after_a_stable_run(lives: list[float]) -> None:
    backoff = RestartBackoff()
    for lived in lives:
        delay = backoff.delay(lived)
        assert 0 <= delay <= RestartBackoff.LONGEST
        if lived >= RestartBackoff.STABLE:
            assert delay == 0
