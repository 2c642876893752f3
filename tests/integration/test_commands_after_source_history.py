"""Commands that compare the topic with ledgers, after it lost its end or was recreated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contract.entity import entity_key
from contract.frame import encode_frame
from contract.row import decode_entity_row
from processor.changelog.producer import DEAD_LETTER_BYTES
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.command_line import kafka_command
from tests.integration.frames import (
    NEVER_LATE,
    PARTITIONS,
    FrameWriter,
    client,
    frame_writer,
    ids_of,
)
from tests.integration.processes import Service
from tests.integration.source_histories import send, shown, until
from tests.integration.test_dead_letters import register
from tests.integration.workers import Found, a_worker, running
from tests.power_cut import power_cut
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

A, B = ids_of(0, PARTITIONS, 2)
(FOREIGN,) = ids_of(1, PARTITIONS, 1)

GoBack = Callable[[int], Awaitable[None]]
"""Makes the source lose everything from an offset of partition 0 on, or recreates it."""


@pytest.fixture
def settings(broken: KafkaSettings) -> KafkaSettings:
    return broken


@pytest.fixture(params=["lost-end", pytest.param("recreated", marks=pytest.mark.long)])
def go_back(request: pytest.FixtureRequest, own_kafka: Cluster, settings: KafkaSettings) -> GoBack:
    topic = topics_from(settings).submissions.name

    async def lose_end(end: int) -> None:
        await power_cut(own_kafka, {topic: end})

    async def recreate(_: int) -> None:
        async with admin_client(settings) as admin:
            await admin.delete_topics([topic])
        await ensure_topics(settings)

    return lose_end if request.param == "lost-end" else recreate


@pytest.fixture
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**client_options(settings), acks="all") as producer:
        yield producer


async def test_an_audit_finds_a_lost_end_and_then_counts_the_remaining_records(
    settings: KafkaSettings, go_back: GoBack, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kept = 2 if "lost-end" in request.node.name else 0
    worker = a_worker(settings, "w", tmp_path)
    await ensure_topics(settings)
    async with running(worker), Service("exporter", settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        command = kafka_command(settings, exporter.url)
        await send(settings, A, 1, 2, 3, 4)
        await until(settings, applied=4)
        await worker.end()
        await command.good("ledger", "--audit")
        await go_back(2)
        if kept:
            ended = await command("ledger", "--audit")
            assert ended.status == 1
            assert "the topic ends before offset 3, which the ledger covers" in ended.err

        # The topic has grown past the ledger: the counts are the same, but the records differ.
        receipts = await send(settings, B, *range(10, 17))
        ended = await command("ledger", "--audit")
        assert ended.status == 1
        assert "partition 0 does not agree: the topic is not the one that the ledger" in ended.err
        assert "lost its end" in ended.err or "deleted and recreated" in ended.err
        ended = await command("ledger", "--audit", "--json")
        assert ended.document["audit"][0]["agrees"] is False

        await worker.start()
        await worker.wait_until_ready()
        await until(settings, applied=11)
        async with asyncio.timeout(30):  # 503 until the exporter reconnects to the broker
            while (await exporter.scrape(f"0-{receipts[-1]}-0")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        ended = await command.good("ledger", "--audit", "--json")
        assert ended.document["balances"] is True
        assert ended.document["audit"][0] == {
            "partition": 0, "from": 0, "records": kept + 7, "submissions": kept + 7, "late": 0,
            "undecodable": 0, "whole": False, "agrees": True,
        }  # fmt: skip
        text = (await command.good("ledger", "--audit")).err
        assert "partition 0 has 2 histories" in text
        assert "deleted" not in text


async def test_a_drained_backup_has_the_newest_history_and_can_be_restored(
    settings: KafkaSettings, go_back: GoBack, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    command, file = kafka_command(settings), str(tmp_path / "all.ndjson.gz")
    drained = ("backup", file, "--drained", "--json")
    await ensure_topics(settings)
    async with running(worker):
        await send(settings, A, 1, 2, 3, 4)
        await until(settings, applied=4)
        await worker.end()
        await go_back(2)
        # By offsets alone, the ledger covers everything again.
        while (await send(settings, B, 7))[-1] < 3:
            pass
        refused = await command(*drained)
        assert refused.status == 1
        assert "a processor must compare them first" in refused.err
        await worker.start()
        await settled_again(settings)
        before = await shown(settings)
        assert before == {A: 4, B: 7}
        taken = (await command.good(*drained)).document
        ledger = (await Found.of(settings)).ledgers[0]
        assert taken["ledger"]["applied"] == ledger.applied > 4
        assert taken["rows"] == 2

    other = replace(settings, kafka_topic_prefix=settings.kafka_topic_prefix + "other.")
    await kafka_command(other).good("restore", file)
    assert await shown(other) == before
    async with running(fresh := a_worker(other, "w", tmp_path)):
        await send(other, A, 5)
        await until(other, applied=1)
        assert await shown(other) == {A: 5, B: 7}
        await kafka_command(other).good("backup", file, "--drained")
    assert [*worker.faults(), *fresh.faults()] == []


async def settled_again(settings: KafkaSettings) -> None:
    """Wait until `history show` reports the same history everywhere and the ledgers
    reach the ends."""
    command = kafka_command(settings)
    async with asyncio.timeout(60):
        while any(
            each["verdict"] != "same" or each["offset"] + 1 < each["kafka_end"]
            for each in (await command("history", "show", "--json")).document["partitions"]
        ):
            await pause(0.2)


async def test_letters_of_both_histories_are_replayed(
    settings: KafkaSettings, go_back: GoBack, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """A frame that only the topic has is not taken from another history's record."""
    await ensure_topics(settings)
    for id in (A, FOREIGN):
        await register(settings, producer, id)
    worker = a_worker(settings, "w", tmp_path)
    command = kafka_command(settings)
    large = encode_frame(
        NEVER_LATE, [client(A, timestamp=float(n), bytes_sent=n) for n in range(8000)]
    )
    assert len(large) > DEAD_LETTER_BYTES
    large = large.replace(b'"version":1', b'"version":9', 1)
    async with running(worker), frame_writer(settings) as frames:
        await send(settings, A, 1)
        await frames.frame(0, client(FOREIGN, timestamp=1.0, bytes_sent=1))
        assert await frames.raw(0, large) == 2
        await until(settings, read=3)
        await worker.end()
        await go_back(1)
        await _until_offset(frames, 2)
        await worker.start()
        await worker.wait_until_ready()
        await frames.frame(0, client(FOREIGN, timestamp=2.0, bytes_sent=2))
        await settled_again(settings)
        listed = (await command.good("dead-letters", "list", "--json")).documents
        assert len(listed) == 3
        by_size = {each["size"] for each in listed}
        assert len(large) in by_size
        ended = await command("dead-letters", "replay", "--all", "--json")
        assert ended.status == 1
        done = ended.document
        assert (done["letters"], done["submissions"], done["staying"]) == (2, 2, 1)
        assert "frame version 9 is not supported" in done["stay"][0]["why"]
        await settled_again(settings)
        rows = (await Found.of(settings)).rows
        row = decode_entity_row(rows[entity_key("client", FOREIGN)])
        assert row.metrics == {"bytes_sent": 2}
        ledgers = (await Found.of(settings)).ledgers
        assert ledgers[1].applied == 2
        assert all(ledger.balances for ledger in ledgers.values())
    assert worker.faults() == []


async def _until_offset(frames: FrameWriter, wanted: int) -> None:
    """Write frames until an offset is reused."""
    while await frames.frame(0, client(A, bytes_sent=5)) < wanted:
        pass
