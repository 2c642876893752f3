"""Deletions: records that are deleted before a worker has read them."""

import asyncio
import signal

from contract.entity import entity_key
from contract.frame import FrameError, decode_frame
from contract.row import decode_entity_row
from service.kafka.topics import topics_from
from tests.chaos.context import ChaosContext
from tests.chaos.supervised_process import holding
from tests.integration.frames import delete_records
from tests.integration.workers import Found

BACKLOG = 2.0
"""Seconds in which frames arrive without a reader."""


async def records_deleted_unread(context: ChaosContext) -> None:
    """Stop all workers and delete all waiting records, as retention does.

    Acknowledged submissions among them cannot be applied: ledgers must count them as lost, and no
    entity may show them.
    """
    members = [worker.member for worker in context.installation.workers]
    async with holding(*members):
        await asyncio.gather(*(member.down(signal.SIGKILL) for member in members))
        try:
            await asyncio.sleep(BACKLOG)
            await context.load.pause()
            await _delete_unread(context)
        finally:
            context.load.resume()
            for member in members:
                member.up()


async def _delete_unread(context: ChaosContext) -> None:
    settings = context.installation.settings
    found = await Found.of(settings)
    ledgers = {partition: ledger.offset for partition, ledger in found.ledgers.items()}
    ends = await context.recount.read(up_to=ledgers)
    context.recount.skip_unread()
    context.load.recent.clear()
    for partition, frames in context.recount.unread.items():
        if not frames:
            continue
        await delete_records(
            settings, topics_from(settings).submissions.name, partition, ends[partition]
        )
        context.tell(f"{len(frames)} records of partition {partition} are deleted unread")
        context.model.lost[partition] += len(frames)
        for key, numbers in _submitted(context, partition, frames).items():
            row = found.rows.get(key.encode())
            applied = 0 if row is None else max(decode_entity_row(row).metrics.values(), default=0)
            context.model.delete(partition, key, numbers, int(applied))


def _submitted(context: ChaosContext, partition: int, frames: list[bytes]) -> dict[str, set[int]]:
    """Return the numbers in these frames by entity."""
    numbers: dict[str, set[int]] = {}
    for value in frames:
        try:
            frame = decode_frame(value)
        except FrameError:
            context.model.bad_frames[partition] -= 1
            continue
        for each in frame.submissions:
            key = entity_key(each.kind, each.id).decode()
            numbers.setdefault(key, set()).update(int(n) for n in each.metrics.values())
    return numbers
