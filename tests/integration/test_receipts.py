"""Receipts and the ledger: the outcome of every submission, as an operator queries it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import KafkaSettings
from service.kafka.topics import topics_from
from tests.integration.command_line import CommandLine
from tests.integration.frames import (
    PARTITIONS,
    FrameWriter,
    client,
    delete_records,
    frame_writer,
    ids_of,
)
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, RowWriter, Service, row_writer
from tests.integration.workers import a_worker
from tobogganing.devstack.cluster import Cluster

OTHER = 1
"""The partition that the exporter under test does not serve."""


@pytest.fixture
async def exporter(settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Service]:
    async with Service("exporter", settings, tmp_path, EXPORTER_SHARD="1/2") as service:
        await service.wait_until_ready()
        yield service


async def ask(exporter: Service, receipt: str) -> tuple[int, dict[str, Any]]:
    answer = await exporter.http.get(f"/api/v1/receipts/{receipt}", headers=exporter.authorized)
    return answer.status_code, answer.json()


async def state(exporter: Service, receipt: str) -> dict[str, Any]:
    status, body = await ask(exporter, receipt)
    assert status == 200, body
    assert body.pop("receipt") == receipt
    return body


async def test_the_outcome_of_every_submission(
    settings: KafkaSettings, frames: FrameWriter, exporter: Service, tmp_path: Path
) -> None:
    a, b = ids_of(0, PARTITIONS, 2)
    (foreign,) = ids_of(1, PARTITIONS, 1)
    await frames.frame(
        0, client(a, bytes_sent=1), client(foreign, bytes_sent=1), client(a, timestamp=5.0)
    )
    await frames.frame(0, client(a, bytes_sent=2), client(b), answer_by=1)
    await frames.raw(0, b"rubbish")
    await frames.raw(0, b'{"version":2,"answer_by":1,"something":[]}')
    await frames.frame(0, client(a, incarnation=0), client(b, incarnation=7), client(b))
    await frames.frame(0, client(b, incarnation=7, bytes_sent=3, timestamp=5e9))

    assert await state(exporter, "0-0-0") == {"state": "queued"}
    assert await state(exporter, "0-5-0") == {"state": "queued"}
    async with a_worker(settings, "w1", tmp_path) as worker:
        await worker.wait_until_ready()
        assert (await exporter.scrape("0-5-0")).status_code == 200

    assert await state(exporter, "0-0-0") == {"state": "processed", "result": "applied"}
    dead = await state(exporter, "0-0-1")
    assert dead["state"] == "dead_lettered"
    assert "does not belong to partition 0" in dead["reason"]
    stale = {"state": "processed", "result": "stale"}
    assert await state(exporter, "0-0-2") == stale
    for index in (0, 1):
        late = {"state": "processed", "result": "late"}
        assert await state(exporter, f"0-1-{index}") == late
    for index in (0, 3):
        dead = await state(exporter, f"0-2-{index}")
        assert dead["state"] == "dead_lettered"
        assert dead["reason"].startswith("not a frame")
    assert (await state(exporter, "0-3-0"))["reason"] == "frame version 2 is not supported"
    assert await state(exporter, "0-4-0") == stale
    assert await state(exporter, "0-4-1") == {"state": "processed", "result": "applied"}
    assert await state(exporter, "0-4-2") == {"state": "processed"}, (
        "by the rules of another incarnation"
    )
    assert await state(exporter, "0-5-0") == {"state": "processed", "result": "applied"}


async def test_receipts_without_a_submission(frames: FrameWriter, exporter: Service) -> None:
    (a,) = ids_of(0, PARTITIONS, 1)
    await frames.frame(0, client(a))
    path = "/api/v1/receipts/0-0-0"
    assert (await exporter.http.get(path)).status_code == 401
    for text in ("x", "0-0", "0-0-0-0-0", "-1-0-0", "0-0-x"):
        status, body = await ask(exporter, text)
        assert (status, body["field"]) == (400, "receipt")
    assert await ask(exporter, "0-1-0") == (
        404,
        {"error": "Partition 0 ends at 1, before this receipt"},
    )
    assert await ask(exporter, "0-0-1") == (
        404,
        {"error": "The frame of this receipt has only 1 submission"},
    )
    assert (await ask(exporter, f"{PARTITIONS}-0-0"))[0] == 404
    assert (await ask(exporter, f"{OTHER}-0-0"))[0] == 421


async def test_the_outcome_of_a_deleted_submission_is_not_guessed(
    settings: KafkaSettings, frames: FrameWriter, exporter: Service, tmp_path: Path
) -> None:
    (foreign,) = ids_of(1, PARTITIONS, 1)
    a, b = ids_of(0, PARTITIONS, 2)
    await frames.frame(0, client(a))
    await frames.frame(0, client(foreign), client(b))
    async with a_worker(settings, "w1", tmp_path) as worker:
        await worker.wait_until_ready()
        assert (await exporter.scrape("0-1-1")).status_code == 200
    topics = topics_from(settings)
    await delete_records(settings, topics.submissions.name, 0, before=1)
    assert await ask(exporter, "0-0-0") == (
        404,
        {"error": "Retention has deleted this submission: the log starts at 1"},
    )
    assert (await state(exporter, "0-1-0"))["state"] == "dead_lettered"
    await delete_records(settings, topics.dead_letter.name, 0)
    purged = await state(exporter, "0-1-0")
    assert purged["state"] == "processed"
    assert "result" not in purged
    assert "dead letters" in purged["note"]
    assert (await state(exporter, "0-1-1"))["result"] == "applied"


async def test_a_submission_deleted_unread_is_lost_and_not_waited_for(
    settings: KafkaSettings, frames: FrameWriter, exporter: Service, tmp_path: Path
) -> None:
    (a,) = ids_of(0, PARTITIONS, 1)

    async def receipt() -> str:
        found = await frames.appended(0, client(a))
        return f"0-{found.offset}-0-{found.timestamp}"

    async with a_worker(settings, "w1", tmp_path) as worker:
        await worker.wait_until_ready()
        counted = await receipt()
        assert (await exporter.scrape(counted)).status_code == 200
        await worker.end()
        unread = [await receipt() for _ in range(3)]
        topic = topics_from(settings).submissions.name
        await delete_records(settings, topic, 0)
        await worker.start()
        await worker.wait_until_ready()
        for is_last in (True, False):
            for each in (*unread, unread[1].rpartition("-")[0]):
                assert (await exporter.scrape(each)).status_code == 410, each
                assert (await state(exporter, each))["state"] == "lost"
            if is_last:
                newest = await receipt()
            assert (await exporter.scrape(counted, newest)).status_code == 200
    assert (await ask(exporter, counted))[0] == 404, "it was counted, and deleted since"


async def test_without_kafka_the_outcome_is_unavailable(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with (
        frame_writer(own_settings) as frames,
        Service("exporter", own_settings, tmp_path) as exporter,
    ):
        await exporter.wait_until_ready()
        await frames.frame(0, client("a"))
        assert await state(exporter, "0-0-0") == {"state": "queued"}
        await own_kafka.brokers[0].kill()
        started = asyncio.get_running_loop().time()
        answer = await exporter.http.get("/api/v1/receipts/0-0-0", headers=exporter.authorized)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert asyncio.get_running_loop().time() - started < 10


@pytest.fixture
async def rows(settings: KafkaSettings) -> AsyncIterator[RowWriter]:
    async with row_writer(settings) as writer:
        yield writer


async def test_the_command_shows_the_ledger(
    settings: KafkaSettings, rows: RowWriter, tmp_path: Path
) -> None:
    counts: dict[str, Any] = {"read": 9, "applied": 5, "stale": 2, "late": 1, "dead_lettered": 1}
    await rows.ledger(0, 4, **counts)
    await rows.ledger(1, 0, read=1, applied=1)
    async with Service("exporter", settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        command = CommandLine(exporter.url, METRICS_TOKEN=METRICS_TOKEN)
        lines = (await command.good("ledger")).out.splitlines()
        assert lines[0].split()[:3] == ["PARTITION", "READ", "APPLIED"]
        assert [line.split() for line in lines[1:]] == [
            ["0", "9", "5", "2", "1", "1", "0", "0", "yes"],
            ["1", "1", "1", "0", "0", "0", "0", "0", "yes"],
            ["all", "10", "6", "2", "1", "1", "0", "0", "yes"],
        ]

        await rows.ledger(1, 1, read=4, applied=1, lost=2)
        assert (await exporter.scrape("1-1-0")).status_code == 200
        ended = await command("ledger")
        assert ended.status == 1
        assert "partition 1 does not balance: " in ended.err
        assert "lost: 2 records" in ended.err
        ended = await command("ledger", "--json")
        assert ended.status == 1
        assert ended.document["balances"] is False
        shown = {each["partition"]: each for each in ended.document["partitions"]}
        assert shown[0] == counts | {
            "partition": 0, "offset": 4, "logical_offset": 4, "lost": 0, "lag_records": 0,
            "missing_records": 0, "histories": 1, "cut": 0, "balances": True,
        }  # fmt: skip
        assert shown[1]["balances"] is False

        wrong = CommandLine(exporter.url, METRICS_TOKEN="wrong")
        assert "check METRICS_TOKEN, --metrics-token-file" in await wrong.bad("ledger")


async def test_a_gateway_has_no_ledger(
    settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    async with Service("gateway", settings, tmp_path, **extra) as gateway:
        await gateway.wait_until_ready()
        command = CommandLine(gateway.url, METRICS_TOKEN=METRICS_TOKEN)
        assert "check --url" in await command.bad("ledger")
