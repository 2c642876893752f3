"""Undecodable data: a flood of it pauses only its partition, undecodable rows stop no worker."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME, decode_source
from contract.entity import entity_key
from contract.ledger import ledger_key
from contract.row import decode_entity_row
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.frames import PARTITIONS, FrameWriter, client, ids_of
from tests.integration.processes import RowWriter, Service, row_writer
from tests.integration.workers import (
    Found,
    WorkerLoad,
    a_worker,
    assert_nothing_lost,
    running,
    settled,
)
from tests.waiting import pause

CAP = 1200
"""Dead letters per minute: a pause of 6 s allows 120 more."""
FLOOD = CAP + 200


async def metric(worker: Service, name: str) -> float:
    text = (await worker.scrape()).text
    (value,) = re.findall(rf"^{re.escape('tobogganing_processor_' + name)} (\S+)$", text, re.M)
    return float(value)


async def until_metric(worker: Service, name: str, wanted: float) -> None:
    async with asyncio.timeout(60):
        while await metric(worker, name) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def letters_of(settings: KafkaSettings) -> dict[int, list[tuple[int, int]]]:
    """Return offset and index of every dead letter, by partition."""
    found: dict[int, list[tuple[int, int]]] = {p: [] for p in range(PARTITIONS)}

    def take(partition: int, records: object) -> None:
        for record in records:  # type: ignore[attr-defined]
            source = decode_source(record.headers)
            found[partition].append((source.offset, source.index))

    name = topics_from(settings).dead_letter.name
    async with TopicReader(settings, name, range(PARTITIONS)) as reader:
        await reader.read_to_end(take, {})
    return found


STOPPED = 'partition_stopped{partition="0",reason="dead_letters"}'


@pytest.mark.parametrize(
    "restarted",
    [
        pytest.param(False, id="left alone"),
        pytest.param(True, id="restarted", marks=pytest.mark.long),
    ],
)
async def test_a_flood_pauses_only_its_partition(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path, restarted: bool
) -> None:
    (flooded,), (other,) = ids_of(0, PARTITIONS, 1), ids_of(1, PARTITIONS, 1)
    worker = a_worker(settings, "w1", tmp_path, DEAD_LETTERS_PER_MINUTE=str(CAP))
    async with running(worker):
        await frames.raw_all(0, (b"rubbish %d" % n for n in range(FLOOD)))
        last = await frames.frame(0, client(flooded, bytes_sent=1))
        await until_metric(worker, STOPPED, 1.0)
        stopped_at = time.monotonic()

        await frames.frame(1, client(other, bytes_sent=1))
        await until_metric(worker, 'partition_stopped{partition="1",reason="dead_letters"}', 0.0)
        async with asyncio.timeout(4):
            while entity_key("client", other) not in (await Found.of(settings)).rows:
                await pause()
        assert await metric(worker, STOPPED) == 1.0
        found = await Found.of(settings)
        assert CAP <= found.ledgers[0].dead_lettered < FLOOD
        assert entity_key("client", flooded) not in found.rows
        assert (await worker.http.get("/-/ready")).status_code == 200

        if restarted:
            await worker.end(signal.SIGTERM)
            await worker.start()
            await worker.wait_until_ready()
        await settled(settings)
        if not restarted:
            assert time.monotonic() - stopped_at > 6
        await until_metric(worker, STOPPED, 0.0)
    found = await Found.of(settings)
    assert decode_entity_row(found.rows[entity_key("client", flooded)]).offset == last == FLOOD
    ledger = found.ledgers[0]
    assert (ledger.read, ledger.dead_lettered, ledger.applied) == (FLOOD + 1, FLOOD, 1)
    letters = (await letters_of(settings))[0]
    assert letters == [(offset, WHOLE_FRAME) for offset in range(FLOOD)]
    assert worker.faults() == []


async def test_pauses_under_load_lose_nothing(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """Valid frames among the invalid ones; one worker joins and another leaves during the load."""
    load = WorkerLoad(settings)
    first, second = (
        a_worker(settings, name, tmp_path, DEAD_LETTERS_PER_MINUTE=str(CAP))
        for name in ("w1", "w2")
    )
    async with running(first):
        async with load.running():
            for _ in range(15):  # one of them falls into every pause and every seek
                await frames.raw_all(0, [b"rubbish"] * 100)
                load.sent += 100
                sent = load.sent
                async with asyncio.timeout(30):
                    while load.sent < sent + 500:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            await until_metric(first, STOPPED, 1.0)
            async with running(second):
                await settled_but(settings, 0)
                await first.end(signal.SIGTERM)
        await first.start()
        await first.wait_until_ready()
        await settled(settings, patience=90)
    found = await assert_nothing_lost(settings, load)
    assert found.ledgers[0].dead_lettered == 1500
    assert first.faults() == []
    assert second.faults() == []


async def settled_but(settings: KafkaSettings, partition: int) -> None:
    """Wait until every other partition has been read to its current end."""
    others = [each for each in range(PARTITIONS) if each != partition]
    async with TopicReader(settings, topics_from(settings).submissions.name, others) as reader:
        ends = await reader.end_offsets()
    async with asyncio.timeout(60):
        while True:
            ledgers = (await Found.of(settings)).ledgers
            if all(ledgers[each].offset >= ends[each] - 1 for each in others):
                return
            await pause()


@pytest.fixture
async def rows(settings: KafkaSettings) -> AsyncIterator[RowWriter]:
    async with row_writer(settings) as writer:
        yield writer


async def test_undecodable_rows_stop_no_worker_and_are_reported(
    settings: KafkaSettings, rows: RowWriter, frames: FrameWriter, tmp_path: Path
) -> None:
    odd, newer, good = ids_of(0, PARTITIONS, 3)
    newer_row = b'{"version":2,"offset":5,"index":0,"metrics":[["bytes_sent",7]]}'
    await rows.send(0, entity_key("client", odd), b"rubbish")
    await rows.send(0, entity_key("client", newer), newer_row)
    async with running(worker := a_worker(settings, "w1", tmp_path)):
        await until_metric(worker, "unreadable_rows", 2.0)
        await frames.frame(0, client(newer, bytes_sent=1), client(good, bytes_sent=1))
        await frames.frame(0, client(odd, bytes_sent=2))
        await settled(settings)
        await until_metric(worker, "unreadable_rows", 1.0)
    assert worker.faults() == []
    found = await Found.of(settings)
    assert found.rows[entity_key("client", newer)] == newer_row
    assert decode_entity_row(found.rows[entity_key("client", odd)]).metrics == {"bytes_sent": 2}
    assert entity_key("client", good) in found.rows
    assert found.ledgers[0].balances
    assert (await letters_of(settings))[0] == [(0, 0), (1, CORRUPT_ROW)]

    async with Service("exporter", settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        text = (await exporter.scrape()).text
        shown = re.findall(r'^tobogganing_client_bytes_sent\{client_id="([^"]+)"', text, re.M)
        assert set(shown) == {odd, good}
        own = (await exporter.http.get("/-/metrics", headers=exporter.authorized)).text
        assert "\ntobogganing_exporter_unreadable_entities 1.0" in own


async def test_an_undecodable_ledger_stops_its_partition_until_it_is_decodable(
    settings: KafkaSettings, rows: RowWriter, frames: FrameWriter, tmp_path: Path
) -> None:
    """As seen by an older worker that was started by mistake together with newer ones."""
    (a,), (b,) = ids_of(0, PARTITIONS, 1), ids_of(1, PARTITIONS, 1)
    await frames.frame(0, client(a, bytes_sent=1))
    await rows.send(0, ledger_key(0), b'{"version":9,"offset":0,"counts":[1]}')
    stopped = 'partition_stopped{partition="0",reason="ledger"}'
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        await until_metric(worker, stopped, 1.0)
        await frames.frame(0, client(a, bytes_sent=2))
        await frames.frame(1, client(b, bytes_sent=1))
        async with asyncio.timeout(30):
            while entity_key("client", b) not in (await Found.of(settings)).rows:
                await pause()
        assert entity_key("client", a) not in (await Found.of(settings)).rows
        await rows.ledger(0, 0, fills=False, read=1, applied=1)
        await worker.end(signal.SIGTERM)
        await worker.start()
        await worker.wait_until_ready()
        await settled(settings)
        await until_metric(worker, stopped, 0.0)
    assert worker.faults() == []
    found = await Found.of(settings)
    assert decode_entity_row(found.rows[entity_key("client", a)]).metrics == {"bytes_sent": 2}
    assert (found.ledgers[0].read, found.ledgers[0].applied) == (2, 2)


async def test_a_ledger_in_another_partition_is_ignored_and_a_tombstone_clears_undecodable_rows(
    settings: KafkaSettings, rows: RowWriter, frames: FrameWriter, tmp_path: Path
) -> None:
    (a,) = ids_of(0, PARTITIONS, 1)
    misplaced = b'{"version":1,"offset":1000000,"read":7,"applied":7}'
    await frames.frame(0, client(a, bytes_sent=1))
    for key in (ledger_key(1), b"ledger:x", b"gizmo:g"):
        await rows.send(0, key, misplaced)
    exporter = Service("exporter", settings, tmp_path)
    async with running(worker := a_worker(settings, "w1", tmp_path)), exporter:
        await settled(settings)
        await until_metric(worker, "unreadable_rows", 3.0)
        await exporter.wait_until_ready()
        assert await unreadable_entities(exporter) == 3
        for key in (ledger_key(1), b"ledger:x", b"gizmo:g"):
            await rows.send(0, key, None)
        await until_metric(worker, "unreadable_rows", 0.0)
        async with asyncio.timeout(30):
            while await unreadable_entities(exporter):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert worker.faults() == []
    found = await Found.of(settings)
    assert (found.ledgers[0].offset, found.ledgers[0].applied) == (0, 1)


async def unreadable_entities(exporter: Service) -> float:
    own = await exporter.http.get("/-/metrics", headers=exporter.authorized)
    (value,) = re.findall(r"^tobogganing_exporter_unreadable_entities (\S+)$", own.text, re.M)
    return float(value)
