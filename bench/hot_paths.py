"""CPU time of reducing a submission and of applying a row, without Kafka.

`python -m bench.hot_paths` prints microseconds and bytes. With `--against FOLDER`, another checkout
of the project is measured in turns, each time in a new process, and the medians of the ratios are
printed: on a busy machine, only these can be compared.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from contract.frame import Submission, encode_frame
from contract.row import ROW_VERSION, EntityRow, encode_row
from exporter.state.store import StateStore
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.write_batch import WriteBatch

try:
    from processor.core.source_record import Record
except ModuleNotFoundError:  # an earlier checkout
    from processor.core.write_batch import Record  # type: ignore[attr-defined]

NOW_MS = 1_700_000_000_000
FRAME, FRAMES_PER_FLUSH = 50, 20
TYPES = ("native", "docker", "mobile")
CHECKOUT = Path(__file__).parent.parent


def labels(number: int) -> dict[str, str]:
    name, type = f"Amara's laptop {number:07}", TYPES[number % 3]
    return {"name": name, "type": type, "headless": "true" if number % 4 == 0 else "false"}


def metrics(number: int, report: int) -> dict[str, int | float]:
    return {
        "bytes_sent": 10**11 + number + report * 123_456,
        "bytes_received": 10**10 + number + report * 34_567,
        "packets_sent": 10**8 + number + report * 100,
        "packets_received": 10**8 + number + report * 90,
        "connection_uptime": 1000.5 + report * 60,
    }


def shuffled(entities: int) -> list[int]:
    return random.sample(range(entities), entities)


def frames(entities: int, report: int) -> Iterator[Record]:
    """A report of each entity, in frames."""
    numbers = shuffled(entities)
    for start in range(0, entities, FRAME):
        members = [
            Submission("client", f"c-{n:07}", 1, labels(n), {}, metrics(n, report))
            for n in numbers[start : start + FRAME]
        ]
        offset = report * entities + start
        value = encode_frame(2**53, members)
        yield Record(0, offset, NOW_MS + report * 60_000 + start, value, epoch=1, topic="a" * 32)


def reduce(state: PartitionState, records: list[Record]) -> None:
    step = FRAMES_PER_FLUSH
    for start in range(0, len(records), step):
        batch = WriteBatch(state)
        for record in records[start : start + step]:
            reduce_frame(batch, record, 1)
        batches = getattr(batch, "record_batches", None) or batch.pieces  # type: ignore[attr-defined]
        for written in batches():
            assert written
        batch.commit()


def rows(entities: int, report: int) -> list[tuple[bytes, bytes]]:
    found = []
    for number in shuffled(entities):
        values = labels(number), metrics(number, report)
        row = EntityRow(ROW_VERSION, report, 0, 1, 0, time.time(), *values)
        found.append((b"client:c-%07d" % number, encode_row(row)))
    return found


def apply(store: StateStore, records: list[tuple[bytes, bytes]]) -> None:
    for key, value in records:
        store.apply(0, key, value)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(entities: int, reports: int) -> dict[str, float]:
    """Return the least CPU time of a report of each entity, per entity in us, and memory."""
    state, store = PartitionState(0), StateStore([0])
    before = resident_bytes()
    apply(store, rows(entities, 0))
    gc.collect()
    memory = (resident_bytes() - before) / entities
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as the services do
    reduced, applied = [], []
    for report in range(1, reports + 2):
        records, values = [*frames(entities, report)], rows(entities, report)
        began = time.process_time()
        reduce(state, records)
        reduced.append(time.process_time() - began)
        began = time.process_time()
        apply(store, values)
        applied.append(time.process_time() - began)
    return {
        "reduce_us": min(reduced[1:]) / entities * 1e6,
        "apply_us": min(applied[1:]) / entities * 1e6,
        "row_bytes": memory,
    }


def measure_in(checkout: Path, arguments: list[str]) -> dict[str, float]:
    """Measure another checkout, in a process of its own."""
    environ = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-P", __file__, "--one", *arguments]
    done = subprocess.run(command, env=environ, cwd=checkout, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--reports", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one or wanted.against is None:
        print(json.dumps(measure(wanted.entities, wanted.reports)))
        return
    arguments = ["--entities", str(wanted.entities), "--reports", str(wanted.reports)]
    own: list[dict[str, float]] = []
    other: list[dict[str, float]] = []
    for turn in range(wanted.rounds):
        for checkout, found in ((CHECKOUT, own), (wanted.against, other))[:: 1 - 2 * (turn % 2)]:
            found.append(measure_in(checkout, arguments))
    for name in own[0]:
        pairs = [(a[name], b[name]) for a, b in zip(own, other, strict=True)]
        mine, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name}: {mine:.2f}, other checkout {theirs:.2f}, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
