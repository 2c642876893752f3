"""Two workers with the same name on a real broker: both report it, and one ends."""

import asyncio
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, FrameWriter, client, ids_of
from tests.integration.workers import Found, a_worker, running, settled


async def test_the_older_of_two_workers_with_one_name_ends_and_reports_why(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    older, newer = (a_worker(settings, "twin", tmp_path) for _ in range(2))
    async with running(older):
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
        async with running(newer):
            assert await older.ended(30) == 2
            (line,) = older.faults()
            assert "WORKER_NAME=twin: another worker of this name has joined on 127.0.0.1" in line
            assert "WORKER_NAMES_FOLDER" in line
            (warning,) = [
                line for line in newer.log().splitlines() if "which this one replaces" in line
            ]
            assert '"worker_name":"twin"' in warning
            await frames.frame(0, client(id, bytes_sent=2))
            await settled(settings)
            assert (
                sum(ledger.applied for ledger in (await Found.of(settings)).ledgers.values()) == 2
            )
            assert newer.faults() == []
            await newer.wait_until_ready()


@pytest.mark.long
async def test_one_of_two_workers_that_start_at_once_ends(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """Either of them may be fenced while it joins."""
    (id,) = ids_of(0, PARTITIONS, 1)
    twins = [a_worker(settings, "twin", tmp_path) for _ in range(2)]
    async with twins[0], twins[1]:
        ends = [asyncio.create_task(twin.ended(60)) for twin in twins]
        done, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [2]
        ended, stays = twins if ends[0] in done else twins[::-1]
        assert "WORKER_NAME=twin: another worker of this name has joined" in ended.log()
        for task in others:
            task.cancel()
        await stays.wait_until_ready()
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
