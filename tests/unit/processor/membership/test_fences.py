"""Stall watchdog and heartbeat: a worker that may have been replaced stops processing."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest

from processor.membership.heartbeat import MAX_AGE, HeartbeatMonitor
from processor.membership.stall_watchdog import StallWatchdog

STOOD_STILL = """
from processor.membership.stall_watchdog import StallWatchdog
now = 0.0
lease = StallWatchdog(session=8, clock=lambda: now)
now = {age}
lease.{call}()
"""


@pytest.mark.parametrize("call", ["check", "tick"])
@pytest.mark.parametrize(("age", "status"), [(3.9, 0), (4.1, 70)])
def test_a_tick_older_than_half_a_session_ends_the_process(
    call: str, age: float, status: int
) -> None:
    program = STOOD_STILL.format(age=age, call=call)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == status


WAITED_AT_THE_START = """
import asyncio
from processor.membership.stall_watchdog import StallWatchdog
now = 0.0
lease = StallWatchdog(session=8, clock=lambda: now)
now = 60.0
async def start():
    ticker = asyncio.create_task(lease.run())
    await asyncio.sleep(0)
    ticker.cancel()
asyncio.run(start())
assert lease.seconds_since_tick() == 0
"""


def test_waiting_for_kafka_at_startup_is_not_a_freeze() -> None:
    run = subprocess.run([sys.executable, "-c", WAITED_AT_THE_START], check=False)
    assert run.returncode == 0


def test_a_tick_resets_the_age() -> None:
    now = 0.0
    watchdog = StallWatchdog(8, clock=lambda: now)
    now = 3.0
    watchdog.tick()
    now = 6.0
    assert watchdog.seconds_since_tick() == 3.0


async def heartbeats(answers: list[bool]) -> SimpleNamespace:
    async def do_heartbeat() -> bool:
        return answers.pop(0)

    return SimpleNamespace(_do_heartbeat=do_heartbeat, member_id="m-1")


async def test_a_worker_waits_before_its_first_join() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(HeartbeatMonitor(session=8).wait_until_fresh(), 0.2)


async def test_only_a_confirmed_heartbeat_is_fresh() -> None:
    heartbeat = HeartbeatMonitor(session=0.5)
    coordinator = await heartbeats([False, True])
    heartbeat.on_joined(coordinator)
    await heartbeat.wait_until_fresh()
    await asyncio.wait_for(_older_than(heartbeat, MAX_AGE * 0.5), 5)
    await coordinator._do_heartbeat()
    assert heartbeat.age() > MAX_AGE * 0.5
    await coordinator._do_heartbeat()
    await asyncio.wait_for(heartbeat.wait_until_fresh(), 5)


async def _older_than(heartbeat: HeartbeatMonitor, age: float) -> None:
    while heartbeat.age() <= age:  # noqa: ASYNC110 (time passes by itself)
        await asyncio.sleep(0.01)


async def test_a_coordinator_is_wrapped_once() -> None:
    heartbeat = HeartbeatMonitor(session=8)
    coordinator = await heartbeats([])
    heartbeat.on_joined(coordinator)
    watched = coordinator._do_heartbeat
    heartbeat.on_joined(coordinator)
    assert coordinator._do_heartbeat is watched


async def test_a_rejoin_updates_the_member_id() -> None:
    heartbeat = HeartbeatMonitor(session=8)
    coordinator = await heartbeats([])
    assert heartbeat.member == ""
    heartbeat.on_joined(coordinator)
    coordinator.member_id = "m-2"
    heartbeat.on_joined(coordinator)
    coordinator.member_id = ""  # as after its consumer has closed
    assert heartbeat.member == "m-2"
