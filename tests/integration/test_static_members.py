"""Workers keep their partitions while the process behind a WORKER_NAME is replaced."""

import signal
from pathlib import Path

from service.config.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, FrameWriter, client, ids_of
from tests.integration.workers import Found, a_worker, running, settled


async def test_a_killed_worker_continues_under_another_host_name(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """A recreated container has another host name, and gets its predecessor's assignment."""
    (id,) = ids_of(0, PARTITIONS, 1)
    killed, successor = (
        a_worker(settings, "pod-0", tmp_path, WEB_HOST=name) for name in ("before", "after")
    )
    async with running(killed):
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
        await killed.end(signal.SIGKILL)
        async with running(successor):
            await frames.frame(0, client(id, bytes_sent=2))
            await settled(settings)
            assert successor.faults() == []
            await successor.wait_until_ready()
    ledgers = (await Found.of(settings)).ledgers.values()
    assert sum(ledger.applied for ledger in ledgers) == 2
