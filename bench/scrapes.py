"""A scrape of everything: how long it takes, and the CPU time and memory it costs.

The exporter and the systems beside it hold the same clients and are scraped in turn. Each
body is compared with what was pushed.
"""

import contextlib
import gzip
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from bench.collector import build_collector, collector, otlp_target
from bench.fleet import Clients
from bench.peers import fill, import_target, push_target, pushgateway, victoria
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter, cores, resident_bytes
from bench.rounds import Measurements
from bench.scraping import check_scrape, fetch
from bench.workloads import BATCH
from contract.frame import entity_key, partition_of
from contract.kinds import CLIENT
from contract.row import (
    ROW_VERSION,
    EntityRow,
    LedgerRow,
    encode_ledger_row,
    encode_row,
    ledger_key,
)
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from

SUBJECT = "Scrape"
PEER_ROUNDS = 1
"""Scrapes of a peer that count, after one that warms it up."""


@dataclass(frozen=True)
class _Page:
    system: str
    packed: bool
    pid: int
    port: int
    path: str
    headers: dict[str, str]
    rounds: int
    """So many scrapes count, after one that warms up; none: the one counts that is made."""


async def write_rows(settings: KafkaSettings, clients: Clients) -> None:
    """Write a row of every client, each its first, as a processor would have; then the ledgers."""
    topic = topics_from(settings).entity_state.name
    producer = AIOKafkaProducer(**client_options(settings), enable_idempotence=True, linger_ms=5)
    await producer.start()
    counts = dict.fromkeys(range(settings.kafka_partitions), 0)
    try:
        for number in range(clients.size):
            key = entity_key(CLIENT.name, clients.id(number))
            partition = partition_of(key, settings.kafka_partitions)
            row = EntityRow(
                version=ROW_VERSION,
                offset=counts[partition],
                index=0,
                incarnation=0,
                last_appended_ms=0,
                last_check_in=1_700_000_000.0,
                labels=clients.labels(number),
                metrics=clients.metrics(number),
            )
            counts[partition] += 1
            await producer.send(topic, encode_row(row), key=key, partition=partition)
        for partition, count in counts.items():
            ledger = LedgerRow(version=ROW_VERSION, offset=count - 1, read=count, applied=count)
            await producer.send(
                topic, encode_ledger_row(ledger), key=ledger_key(partition), partition=partition
            )
        await producer.flush()
    finally:
        await producer.stop()


async def measure(
    pipeline: MeasuredPipeline, clients: Clients, rounds: int, *, peers: bool
) -> list[Measurements]:
    """Scrape the exporter so often, and peers a few times.

    Raises:
        WrongResultError: a body is not what it must be.
    """
    kafka = await pipeline.topics()
    await write_rows(kafka, clients)
    async with contextlib.AsyncExitStack() as stack:
        exporter = await stack.enter_async_context(
            pipeline.service("exporter", kafka, core=cores()[0])
        )
        token = pipeline.secrets.bearer("METRICS_TOKEN")
        packed = token | {"accept-encoding": "gzip"}
        ours = "Tobogganing exporter", exporter.pids["exporter"], exporter.port, "/metrics"
        pages = [
            _Page(ours[0], False, *ours[1:], headers=token, rounds=rounds),
            _Page(ours[0], True, *ours[1:], headers=packed, rounds=rounds),
        ]
        if peers:
            folder, enter = pipeline.folder, stack.enter_async_context
            pushed = await enter(pushgateway(folder, checks=False))
            await fill(push_target(pushed, clients, 32), clients)
            stored = await enter(victoria(folder))
            await fill(import_target(stored, clients, 4, BATCH), clients)
            others = {pushed: PEER_ROUNDS, stored: PEER_ROUNDS}
            if (program := build_collector()) is not None:
                collected = await enter(collector(program, folder))
                # A scrape takes it half a minute: the one that is measured is the check as well.
                await fill(otlp_target(collected, clients, 4, BATCH), clients, check=False)
                others[collected] = 0
            pages += [
                _Page(each.name, False, each.pid, each.page_port, each.page, {}, times)
                for each, times in others.items()
            ]
        size = f"{clients.size:,} clients"
        found = [
            Measurements(SUBJECT, page.system, f"{size}, gzip" if page.packed else size)
            for page in pages
        ]
        for number in range(rounds + 1):
            for page, figures in zip(pages, found, strict=True):
                if number > page.rounds:
                    continue
                values = await _scrape(page, clients)
                if number > 0 or not page.rounds:
                    figures.add(**values)
    return found


async def _scrape(page: _Page, clients: Clients) -> dict[str, float]:
    meter = Meter({"server": page.pid})
    body, _, seconds, _ = await fetch(page.port, page.path, page.headers)
    used = meter.read()
    size = len(body)
    text = gzip.decompress(body) if page.packed else body
    check_scrape(text, clients, range(clients.size))
    return {
        "seconds": seconds,
        "CPU seconds": used.cpu["server"],
        "megabytes": size / 1e6,
        "bytes a client": resident_bytes(page.pid) / clients.size,
    }
