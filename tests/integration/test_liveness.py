"""A hanging worker is detected, and a worker is not ended for faults that a restart cannot fix."""

import asyncio
import os
import signal
import textwrap
import time
from pathlib import Path

from contract.entity import entity_key
from service.config.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, FrameWriter, client, ids_of
from tests.integration.workers import Found, a_worker, running, settled
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

STUCK_AFTER = "4"


def hanging(folder: Path) -> dict[str, str]:
    """Return the environment of a worker whose batches hang while the file `hang` exists."""
    startup = folder / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
            import asyncio, pathlib, sys
            if "processor" in sys.orig_argv:
                from processor.membership.heartbeat import HeartbeatMonitor
                wait = HeartbeatMonitor.wait_until_fresh

                async def hanging(self):
                    if pathlib.Path({str(folder / "hang")!r}).exists():
                        await asyncio.Event().wait()
                    await wait(self)

                HeartbeatMonitor.wait_until_fresh = hanging
        """)
    )
    root = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join((str(startup), root))}


async def test_a_hanging_worker_is_unhealthy_then_ends_and_continues_after_a_restart(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    worker = a_worker(
        settings, "w1", tmp_path, STUCK_AFTER_SECONDS=STUCK_AFTER, **hanging(tmp_path)
    )
    async with running(worker):
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
        (tmp_path / "hang").touch()
        await frames.frame(0, client(id, bytes_sent=2))
        sent = time.monotonic()
        fault = await worker.until("/-/healthy", 503)
        assert time.monotonic() - sent > float(STUCK_AFTER)
        (reason,) = fault.json()["faults"]
        assert reason.startswith("partition 0 has not advanced past offset 0 for ")
        assert reason.endswith(" s, with 1 record waiting")
        assert await worker.ended(30) == 70
        (tmp_path / "hang").unlink()
        await worker.start()
        await worker.wait_until_ready()
        await settled(settings)
        assert (await worker.http.get("/-/healthy")).status_code == 200
    assert (await Found.of(settings)).ledgers[0].applied == 2
    assert entity_key("client", id) in (await Found.of(settings)).rows


async def test_a_worker_is_healthy_during_an_outage_of_kafka_and_stops_in_the_next_one(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    broker = own_kafka.brokers[0]
    worker = a_worker(broken, "w1", tmp_path, STUCK_AFTER_SECONDS="1")
    async with running(worker):
        await broker.kill()
        await worker.until("/-/ready", 503)
        deadline = asyncio.get_running_loop().time() + 12
        while asyncio.get_running_loop().time() < deadline:
            assert (await worker.http.get("/-/healthy")).status_code == 200
            await pause()
        broker.launch()
        await worker.wait_until_ready()
        assert (await worker.http.get("/-/healthy")).status_code == 200
        await broker.kill()
        await worker.until("/-/ready", 503)
        worker.send(signal.SIGTERM)
        assert await worker.ended(30) == 0
    assert worker.faults() == []
