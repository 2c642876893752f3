"""The lease and the heartbeat: a worker that may have been replaced does not go on."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest

from processor.heartbeat import FRESH, Heartbeat
from processor.lease import Lease

STOOD_STILL = """
from processor.lease import Lease
now = 0.0
lease = Lease(session=8, clock=lambda: now)
now = {age}
lease.{call}()
"""


@pytest.mark.parametrize("call", ["check", "renew"])
@pytest.mark.parametrize(("age", "status"), [(3.9, 0), (4.1, 70)])
def test_a_lease_older_than_half_a_session_ends_the_process(
    call: str, age: float, status: int
) -> None:
    program = STOOD_STILL.format(age=age, call=call)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == status


WAITED_AT_THE_START = """
import asyncio
from processor.lease import Lease
now = 0.0
lease = Lease(session=8, clock=lambda: now)
now = 60.0
async def start():
    ticker = asyncio.create_task(lease.run())
    await asyncio.sleep(0)
    ticker.cancel()
asyncio.run(start())
assert lease.age() == 0
"""


def test_a_start_that_waited_for_kafka_is_no_standstill() -> None:
    run = subprocess.run([sys.executable, "-c", WAITED_AT_THE_START], check=False)
    assert run.returncode == 0


def test_a_renewed_lease_is_young() -> None:
    now = 0.0
    lease = Lease(8, clock=lambda: now)
    now = 3.0
    lease.renew()
    now = 6.0
    assert lease.age() == 3.0


async def heartbeats(answers: list[bool]) -> SimpleNamespace:
    async def do_heartbeat() -> bool:
        return answers.pop(0)

    return SimpleNamespace(_do_heartbeat=do_heartbeat, member_id="m-1")


async def test_before_it_has_joined_a_worker_waits() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Heartbeat(session=8).fresh(), 0.2)


async def test_only_an_answered_heartbeat_is_fresh() -> None:
    heartbeat = Heartbeat(session=0.5)
    coordinator = await heartbeats([False, True])
    heartbeat.joined(coordinator)
    await heartbeat.fresh()
    await asyncio.wait_for(_older_than(heartbeat, FRESH * 0.5), 5)
    await coordinator._do_heartbeat()
    assert heartbeat.age() > FRESH * 0.5
    await coordinator._do_heartbeat()
    await asyncio.wait_for(heartbeat.fresh(), 5)


async def _older_than(heartbeat: Heartbeat, age: float) -> None:
    while heartbeat.age() <= age:  # noqa: ASYNC110 (time passes by itself)
        await asyncio.sleep(0.01)


async def test_a_coordinator_is_watched_once() -> None:
    heartbeat = Heartbeat(session=8)
    coordinator = await heartbeats([])
    heartbeat.joined(coordinator)
    watched = coordinator._do_heartbeat
    heartbeat.joined(coordinator)
    assert coordinator._do_heartbeat is watched


async def test_the_group_names_a_worker_anew_when_it_joins_again() -> None:
    heartbeat = Heartbeat(session=8)
    coordinator = await heartbeats([])
    assert heartbeat.member == ""
    heartbeat.joined(coordinator)
    coordinator.member_id = "m-2"
    heartbeat.joined(coordinator)
    coordinator.member_id = ""  # as after its consumer has closed
    assert heartbeat.member == "m-2"
