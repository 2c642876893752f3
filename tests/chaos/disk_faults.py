"""Full disks."""

import asyncio

from tests.chaos.context import ChaosContext
from tests.chaos.poison import corrupt_frames
from tests.chaos.supervised_process import holding

FULL = 6.0
"""Seconds that a disk is full."""
PATIENCE = 30.0


async def broker_disk_full(context: ChaosContext) -> None:
    """Fill a broker's disk: the broker ends, and is restarted until there is space."""
    broker = context.installation.brokers.members[-1]
    async with holding(broker):
        before = len(broker.exits)
        with context.installation.broker_disk.full():
            async with asyncio.timeout(PATIENCE):
                while len(broker.exits) == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await asyncio.sleep(FULL / 2)
        broker.forgive()


async def worker_disk_full(context: ChaosContext) -> None:
    """Fill a worker's disk, which has its log and temporary files (it stores no state on disk)."""
    worker = context.installation.workers[0]
    async with holding(worker.member):
        with context.installation.worker_disk.full():
            await corrupt_frames(context)
            await asyncio.sleep(FULL / 2)
            await worker.member.restart()
            await context.installation.until_ready(worker)
            await corrupt_frames(context)
