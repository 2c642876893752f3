"""Shortages: disks without room."""

import asyncio

from tests.chaos.poison import corrupt_frames
from tests.chaos.stage import Stage

FULL = 6.0
"""Seconds that a disk is full."""


async def broker_disk_full(stage: Stage) -> None:
    """A broker has no room: it ends, and is started again until it has."""
    broker = stage.installation.brokers.members[-1]
    with stage.installation.broker_disk.full():
        await asyncio.sleep(FULL)
    broker.forgive()


async def worker_disk_full(stage: Stage) -> None:
    """A worker has no room: for its log and its temporary files (it keeps no state on disk)."""
    worker = stage.installation.workers[0]
    with stage.installation.worker_disk.full():
        await corrupt_frames(stage)
        await asyncio.sleep(FULL / 2)
        await worker.member.restart()
        await stage.installation.until_ready(worker)
        await corrupt_frames(stage)
