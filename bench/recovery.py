"""`python -m bench.recovery`: how soon a worker that was killed is back, with all its rows.

A worker that has a row of each entity is killed (SIGKILL); submissions go on; it is started again,
under its name. The time goes from that start to when all of them are applied. Every row and ledger
is compared with a model afterwards.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import click

from bench.errors import WrongResultError
from bench.logs import quiet
from bench.pipeline import pipeline
from bench.processor import PATIENCE, MeasuredWorker, until_done
from bench.processor_load import FrameLoad

FRAME = 50
MEANWHILE = 10_000
"""Submissions that come in while there is no worker."""


async def measure(rows: int, folder: Path) -> dict[str, float]:
    """Kill a worker of so many rows and start it again.

    Raises:
        WrongResultError: a row or a ledger is not what it must be.
    """
    async with pipeline(folder) as ours:
        kafka = await ours.topics()
        load = FrameLoad(kafka, rows, FRAME)
        await load.write(rows)
        async with asyncio.timeout(PATIENCE):
            async with MeasuredWorker(0, kafka, folder) as worker:
                await worker.owns(kafka.kafka_partitions)
                await until_done([worker], load.submissions)
                worker.kill()
            await load.write(MEANWHILE)
            began = time.monotonic()
            async with MeasuredWorker(0, kafka, folder) as worker:
                await worker.owns(kafka.kafka_partitions)
                loaded = time.monotonic()
                sample = (await until_done([worker], MEANWHILE))[0]
        await load.check()
    return {
        "rows": rows,
        "loaded_seconds": round(loaded - began, 2),
        "back_seconds": round(sample.time - began, 2),
        "cpu_seconds": round(sample.cpu, 2),
        "resident_mib": round(sample.resident / 2**20),
        "rows_and_ledgers_verified": len(load.rows) + len(load.ledgers),
    }


@click.command()
@click.option("--rows", default=500_000, show_default=True, help="Entities with a row.")
def main(rows: int) -> None:
    """Measure how soon a killed worker is back; print one JSON object."""
    quiet()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-recovery-") as name:
            print(json.dumps(asyncio.run(measure(rows, Path(name)))))
    except WrongResultError as error:
        print(f"WRONG: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
