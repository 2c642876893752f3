"""Raises an exception at each await of the agent: the worker must end itself and leave no partial
state."""

import asyncio
import os
from collections import deque
from pathlib import Path

from tests.chaos.context import ChaosContext
from tests.chaos.exception_injection import Point, points, raising
from tests.chaos.installation import ChaosService
from tests.chaos.poison import corrupt_frames, zombie_rows
from tobogganing.devstack.run_config import CHECKOUT

TIMES = 20
"""The exception is raised when its await is reached for the nth time, n at most this."""
SELDOM = frozenset({"start", "stop", "repair", "write_dead_letters", "_write_dead_letters"})
"""Functions that are called so rarely that the first call must raise."""
UNREACHED = 12
"""Awaits that a round may not reach: seven of a changelog that has lost its end, and one each of a
gap in the source, of rows that regressed before a load, of the explanation of a failed flush, of a
writer's stop, and of the yield in a batch that takes longer than 5 ms."""
REACHED = 6.0
"""Seconds after which an await counts as not reached by this load."""
PATIENCE = 30.0
"""The same for a second attempt, on a machine with other load."""
STARTUP = Path(__file__).with_name("startup")
POLL = 0.05
BROKEN = "exit code 70"


async def agent_raises(context: ChaosContext) -> None:
    """Raise at every await in turn, before it in one round and after it in the next.

    Both workers share the awaits.
    """
    left = deque(points(CHECKOUT))
    context.rng.shuffle(left)
    when = ("before", "after")[context.turn % 2]
    reached: list[Point] = []
    unreached: deque[Point] = deque()

    async def work(worker: ChaosService) -> None:
        while left:
            point = left.popleft()
            times = 1 if _is_seldom(point) else context.rng.randint(1, TIMES)
            if await _raised(context, worker, point, when, times) or (
                times > 1 and await _raised(context, worker, point, when, 1)
            ):
                reached.append(point)
            else:
                unreached.append(point)

    async def work_again(worker: ChaosService) -> None:
        while unreached and len(reached) < total - UNREACHED:
            point = unreached.popleft()
            if await _raised(context, worker, point, when, 1, PATIENCE):
                reached.append(point)

    total = len(left)
    workers = context.installation.workers
    await asyncio.gather(*(work(worker) for worker in workers))
    await asyncio.gather(*(work_again(worker) for worker in workers))
    context.tell(f"{len(reached)} of {total} awaits raised {when}")
    for worker in workers:
        worker.extra = {}
        await worker.member.restart()
    assert len(reached) >= total - UNREACHED, f"only {reached} of {total} awaits were reached"


def _is_seldom(point: Point) -> bool:
    return point.module == "processor.changelog.producer" or point.function in SELDOM


async def _raised(
    context: ChaosContext,
    worker: ChaosService,
    point: Point,
    when: str,
    times: int,
    patience: float = REACHED,
) -> bool:
    """Let a worker raise at an await; return whether that ended it within `patience` seconds."""
    path = f"{STARTUP}{os.pathsep}{CHECKOUT}"
    worker.extra = {"PYTHONPATH": path, **raising(point, when, times)}
    member = worker.member
    member.forgive()
    before, life = len(member.exits), member.starts
    await member.restart()
    while member.starts == life:  # noqa: ASYNC110
        await asyncio.sleep(POLL)
    worker.extra = {}
    context.tell(f"{member.name} is to raise {when} {point}")
    await corrupt_frames(context)
    try:
        await context.installation.until_ready(worker)
        await zombie_rows(context)
        async with asyncio.timeout(patience):
            while len(member.exits) == before:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
    except TimeoutError:
        context.tell(f"{member.name} did not reach {point}")
        return False
    how = member.exits[-1].how
    assert how == BROKEN, f"an exception {when} {point} ended with {how}"
    return True
