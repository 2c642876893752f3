"""An exporter of a whole fleet: applying, catching up, scrapes, memory; prints JSON.

    python -m bench.exporter [--clients 100000] [--rows 1000000] [--shards 1]

starts a broker, writes the fleet's registrations and rows (as records), and starts the exporter's
shards one after the other. Every scrape is checked line by line: a wrong one ends it with status 1.
"""

import argparse
import asyncio
import contextlib
import gzip
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.errors import WrongResultError
from bench.fleet import Clients, register
from bench.logs import quiet
from bench.processes import cpu_seconds, running
from bench.rows import RowFleet, write_rows
from contract.frame import partition_of
from contract.kinds import CLIENT
from contract.row import encode_row
from exporter.scrape.exposition import render_exposition
from exporter.state.store import StateStore
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import install_kafka
from tobogganing.devstack.ports import free_ports

TOKEN = "metrics-token-of-the-benchmark"
REPEATS = 5

Figures = dict[str, float]


def fail(reason: str) -> WrongResultError:
    return WrongResultError(f"the exporter answered wrongly: {reason}")


def measure_store(fleet: RowFleet) -> Figures:
    """Time the store by itself, without Kafka and HTTP, in processor time."""
    store = StateStore([0])
    apply_us = []
    for first in range(0, 3 * fleet.clients, fleet.clients):
        order = list(range(fleet.clients))
        random.Random(first).shuffle(order)
        rows = [
            (fleet.key(client), encode_row(fleet.row(client, first + n)))
            for n, client in enumerate(order)
        ]
        began = time.process_time()
        applied = sum([store.apply(0, key, value) for key, value in rows])
        apply_us.append((time.process_time() - began) * 1e6 / len(rows))
        if applied != fleet.clients:
            raise fail(f"{applied} of {fleet.clients} rows were applied")
    snapshots, renders, bodies = [], [], []
    for _ in range(REPEATS):
        began = time.process_time()
        sheets = store.snapshot()
        snapshots.append(time.process_time() - began)
        size = sum(len(piece) for steps in sheets for pieces in steps for piece in pieces)
        renders.append(time.process_time() - began)
        began = time.process_time()
        exposition = render_exposition(store.snapshot(), b"")
        bodies.append(time.process_time() - began)
        if exposition.size != size:
            raise fail(f"a body of {exposition.size} bytes of {size} that were rendered")
    return {
        "apply_first_cpu_us": round(apply_us[0], 2),
        "apply_again_cpu_us": round(statistics.median(apply_us[1:]), 2),
        "snapshot_cpu_seconds": round(statistics.median(snapshots), 4),
        "render_cpu_seconds": round(statistics.median(renders), 3),
        "render_and_gzip_cpu_seconds": round(statistics.median(bodies), 3),
        "body_megabytes": round(size / 1e6, 1),
        "gzip_megabytes": round(exposition.compressed_size / 1e6, 1),
    }


class MeasuredExporter:
    """A running exporter."""

    def __init__(self, pid: int, port: int, ready_seconds: float) -> None:
        self.pid = pid
        self.port = port
        self.ready_seconds = ready_seconds

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.pid)

    def megabytes(self, what: str = "VmRSS") -> float:
        """Resident memory; `VmHWM` is the most that it ever was."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"the process has no {what}")

    def scrape(self, encoding: str) -> tuple[float, bytes]:
        """Seconds from the question to the answer's last byte, and the answer as it came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"authorization": f"Bearer {TOKEN}", "accept-encoding": encoding}
        began = time.perf_counter()
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - began
        connection.close()
        if answer.status != 200:
            raise fail(f"{answer.status} {text[:200]!r}")
        return seconds, text


def check(text: bytes, fleet: RowFleet, newest: dict[int, int]) -> None:
    """Fail unless an exposition shows exactly these clients, each line with its newest value."""
    families = {metric.name: metric.field for metric in CLIENT.families}
    expected = {
        fleet.id(client): fleet.row(client, position) for client, position in newest.items()
    }
    seen = dict.fromkeys(families, 0)
    for line in text.decode().splitlines():
        name, brace, rest = line.partition('{client_id="')
        if not brace or line.startswith("#"):
            continue
        row = expected[rest.partition('"')[0]]
        values = row.metrics | {"last_check_in": row.last_check_in}
        if float(rest.rpartition(" ")[2]) != values[families[name]]:
            raise fail(line)
        seen[name] += 1
    if set(seen.values()) != {len(expected)}:
        raise fail(f"{seen}, expected {len(expected)} lines of each")


@contextlib.asynccontextmanager
async def running_exporter(
    environ: dict[str, str], shard: str, folder: Path
) -> AsyncIterator[MeasuredExporter]:
    port = free_ports(1)[0]
    began = time.monotonic()
    async with running(
        [sys.executable, "-m", "exporter"],
        environ=environ | {"PORT": str(port), "EXPORTER_SHARD": shard},
        log=folder / f"exporter-{port}.log",
        ready=f"http://127.0.0.1:{port}/-/ready",
        core=None,
    ) as pid:
        yield MeasuredExporter(pid, port, time.monotonic() - began)


async def measure_shard(
    exporter: MeasuredExporter,
    fleet: RowFleet,
    newest: dict[int, int],
    empty: MeasuredExporter,
    start: float,
) -> Figures:
    """Scrape one shard of the fleet that has just caught up; `newest` are its clients, `start` the
    CPU time in seconds that an `empty` exporter takes to start.
    """
    empty_megabytes = empty.megabytes()
    rows = fleet.rows * len(newest) // fleet.clients
    cpu = exporter.cpu_seconds() - start
    figures = {
        "clients": len(newest),
        "rows": rows,
        "ready_seconds": round(exporter.ready_seconds, 2),
        "catch_up_cpu_us_per_row": round(cpu * 1e6 / rows, 2),
        "bytes_per_client": _per_client(exporter.megabytes() - empty_megabytes, newest),
    }
    for encoding in ("gzip", "identity"):
        answers = [await asyncio.to_thread(exporter.scrape, encoding) for _ in range(REPEATS)]
        seconds = [seconds for seconds, _ in answers]
        figures[f"http_{encoding}_seconds"] = round(statistics.median(seconds), 3)
        figures[f"bytes_per_client_after_{encoding}"] = _per_client(
            exporter.megabytes() - empty_megabytes, newest
        )
        text = answers[-1][1]
        check(gzip.decompress(text) if encoding == "gzip" else text, fleet, newest)
    most = _per_client(exporter.megabytes("VmHWM") - empty_megabytes, newest)
    # The kernel notes the peak now and then only.
    figures["bytes_per_client_at_most"] = max(
        most, *(value for name, value in figures.items() if name.startswith("bytes_per_client"))
    )
    return figures


def _per_client(megabytes: float, newest: dict[int, int]) -> int:
    return round(megabytes * 1024 * 1024 / len(newest))


async def measure(fleet: RowFleet, shards: int, folder: Path) -> dict[str, Figures]:
    cluster = Cluster(folder / "kafka", install_kafka())
    await cluster.start()
    try:
        partitions = 4 if shards == 1 else 2 * shards
        settings = KafkaSettings(
            kafka_bootstrap_servers=cluster.bootstrap_servers,
            kafka_topic_prefix="bench.",
            kafka_partitions=partitions,
        )
        await ensure_topics(settings)
        await register(settings, Clients(fleet.clients).records())
        await write_rows(settings, fleet)
        environ = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": "bench.",
            "KAFKA_PARTITIONS": str(partitions),
            "METRICS_TOKEN": TOKEN,
            "HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
        }
        figures, all_newest = {}, fleet.newest()
        nothing = environ | {"KAFKA_TOPIC_PREFIX": "empty."}
        async with running_exporter(nothing, "1/1", folder) as empty:
            start = empty.cpu_seconds()
            for number in range(1, shards + 1):
                newest = {
                    client: position
                    for client, position in all_newest.items()
                    if partition_of(fleet.key(client), partitions) % shards == number - 1
                }
                shard = f"{number}/{shards}"
                async with running_exporter(environ, shard, folder) as exporter:
                    figures[shard] = await measure_shard(exporter, fleet, newest, empty, start)
                print(f"shard {shard}: {figures[shard]}", file=sys.stderr)
        return figures
    finally:
        await cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=1)
    wanted = parser.parse_args()
    quiet()
    fleet = RowFleet(wanted.clients, wanted.rows)
    try:
        figures = {"store": measure_store(RowFleet(wanted.clients // wanted.shards, 0))}
        with tempfile.TemporaryDirectory() as folder:
            figures |= asyncio.run(measure(fleet, wanted.shards, Path(folder)))
    except WrongResultError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
