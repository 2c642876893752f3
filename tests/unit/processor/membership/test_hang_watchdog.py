"""The hang watchdog ends a process whose event loop is blocked."""

import signal
import subprocess
import sys
import time

PROGRAM = """
import asyncio, re, time
from processor.membership import hang_watchdog
hang_watchdog.LIMIT = {limit}

async def main():
    watchdog = asyncio.create_task(hang_watchdog.run())
    await asyncio.sleep(0)
    print("runs", flush=True)
    await asyncio.sleep({asleep})
    {blocked}

asyncio.run(main())
"""


def run(asleep: float, blocked: str, limit: float = 0.5) -> tuple[int, str]:
    program = PROGRAM.format(asleep=asleep, blocked=blocked, limit=limit)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def test_a_blocked_loop_ends_the_process_and_logs_its_stacks() -> None:
    status, output = run(asleep=0, blocked="time.sleep(30)")
    assert status == 1
    assert "in main" in output


def test_a_running_loop_does_not_end_the_process() -> None:
    assert run(asleep=1, blocked="pass") == (0, "")


def test_c_code_that_blocks_every_thread_ends_the_process_too() -> None:
    status, output = run(asleep=0, blocked="re.match('(a+)+$', 'a' * 60 + 'b')")
    assert status == -signal.SIGPROF
    assert "in main" in output


def test_a_process_that_was_stopped_continues_afterwards() -> None:
    """It got no CPU time, so its blocked loop is not its fault."""
    stopped = 3.0
    program = PROGRAM.format(asleep=stopped + 2, blocked="pass", limit=2.0)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(stopped)  # the subject of the test
        process.send_signal(signal.SIGCONT)
        output = process.communicate(timeout=30)[1]
    assert (process.returncode, output) == (0, b"")
