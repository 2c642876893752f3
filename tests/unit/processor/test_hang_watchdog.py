"""The hang watchdog ends a process whose event loop does not run."""

import subprocess
import sys

PROGRAM = """
import asyncio, time
from processor import hang_watchdog
hang_watchdog.LIMIT = 0.5

async def main():
    watchdog = asyncio.create_task(hang_watchdog.run())
    await asyncio.sleep({asleep})
    time.sleep({blocked})

asyncio.run(main())
"""


def run(asleep: float, blocked: float) -> tuple[int, str]:
    program = PROGRAM.format(asleep=asleep, blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def test_a_loop_that_stands_still_ends_the_process_with_its_stacks() -> None:
    status, output = run(asleep=0, blocked=30)
    assert status == 1
    assert "in main" in output


def test_a_loop_that_runs_does_not() -> None:
    assert run(asleep=1, blocked=0) == (0, "")
