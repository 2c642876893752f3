"""The submissions topic lost records: its end is lost, or it was deleted and recreated."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.ledger import ledger_key
from contract.row import encode_row
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.command_line import kafka_command
from tests.integration.frames import PARTITIONS, client, frame_writer, ids_of
from tests.integration.processes import ADMIN_TOKEN, RowWriter, Service, row_writer
from tests.integration.source_histories import A, B, C, send, shown, sound_worker, until
from tests.integration.workers import a_worker, running
from tests.power_cut import power_cut
from tests.waiting import eventually
from tobogganing.devstack.cluster import Cluster


@pytest.fixture
async def rows(settings: KafkaSettings) -> AsyncIterator[RowWriter]:
    async with row_writer(settings) as writer:
        yield writer


@pytest.mark.parametrize(
    "alive",
    [
        pytest.param(True, id="worker-alive"),
        pytest.param(False, id="worker-down", marks=pytest.mark.long),
    ],
)
async def test_records_after_a_lost_end_are_applied(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path, alive: bool
) -> None:
    worker = a_worker(broken, "w", tmp_path)
    topic = topics_from(broken).submissions.name
    async with contextlib.AsyncExitStack() as stack:
        await ensure_topics(broken)
        await stack.enter_async_context(running(worker))
        await send(broken, A, 1, 2, 3)
        await send(broken, B, 10, 11, 12)
        await until(broken, offset=5, applied=6)
        if not alive:
            await worker.end()
        await power_cut(own_kafka, {topic: 2})
        assert await send(broken, A, 4) == [2]
        if not alive:
            await worker.start()
        ledger = await until(broken, applied=7)
        assert (ledger.offset, ledger.shift, ledger.read, ledger.lost) == (6, 4, 7, 0)
        assert ledger.version == 2
        assert await shown(broken) == {A: 4, B: 12}
        await send(broken, B, 13, 14, 15, 16, 17, 18)
        ledger = await until(broken, applied=13)
        assert (ledger.offset, ledger.parted) == (12, 1)
        assert await shown(broken) == {A: 4, B: 18}
        await worker.end()
        await worker.start()
        await send(broken, C, 1)
        assert (await until(broken, applied=14)).read == 14
    assert worker.faults() == []


async def test_a_lost_end_stays_a_fault_however_far_the_topic_grows(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    async with sound_worker(broken, tmp_path) as worker:
        await send(broken, A, 1, 2, 3, 4)
        await until(broken, applied=4)
        await worker.end()
        await power_cut(own_kafka, {topics_from(broken).submissions.name: 1}, torn=40)
        assert await send(broken, B, *range(20, 30)) == list(range(1, 11))
        await worker.start()
        ledger = await until(broken, applied=14)
        assert (ledger.offset, ledger.next_offset, ledger.read) == (13, 11, 14)
        assert await shown(broken) == {A: 4, B: 29}


async def test_rows_written_before_their_ledger_are_not_newer_than_later_records(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """A worker was killed between the two writes, and the source has lost the rows' records."""
    async with sound_worker(broken, tmp_path) as worker, row_writer(broken) as rows:
        await send(broken, A, 1, 2)
        await until(broken, applied=2)
        await worker.end()
        await send(broken, B, 7, 8)
        await rows.row(f"client:{B}", 3, incarnation=1, metrics={"bytes_sent": 8})
        await power_cut(own_kafka, {topics_from(broken).submissions.name: 1})
        await send(broken, B, 9)
        await worker.start()
        ledger = await until(broken, applied=3)
        assert (ledger.offset, ledger.stale, ledger.parted) == (4, 0, 1)
        assert await shown(broken) == {A: 2, B: 9}


@pytest.mark.parametrize(
    "alive",
    [
        pytest.param(True, id="worker-alive", marks=pytest.mark.long),
        pytest.param(False, id="worker-down"),
    ],
)
async def test_a_recreated_topic_is_read_from_its_start(
    settings: KafkaSettings, tmp_path: Path, alive: bool
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    topic = topics_from(settings).submissions.name
    await ensure_topics(settings)
    async with running(worker):
        await send(settings, A, 1, 2, 3)
        await until(settings, applied=3)
        if not alive:
            await worker.end()
        async with admin_client(settings) as admin:
            await admin.delete_topics([topic])
        await recreated(settings)
        assert await send(settings, A, 4, 5) == [0, 1]
        if not alive:
            await worker.start()
        ledger = await until(settings, applied=5)
        assert (ledger.offset, ledger.shift, ledger.read) == (4, 3, 5)
        assert await shown(settings) == {A: 5}
        await send(settings, B, 1, 2, 3, 4, 5)
        assert (await until(settings, applied=10)).parted == 1


async def recreated(settings: KafkaSettings) -> None:
    """Create the topics again after the deletion has taken effect."""
    await ensure_topics(settings)


async def receipt_of(settings: KafkaSettings, id: str, value: int) -> str:
    """Write a frame as a gateway does; return the receipt of its submission."""
    async with frame_writer(settings) as frames:
        answer = await frames.appended(0, client(id, bytes_sent=value))
    return f"0-{answer.offset}-0-{answer.timestamp}"


async def ask(exporter: Service, receipt: str) -> tuple[int, dict[str, Any]]:
    answer = await exporter.http.get(f"/api/v1/receipts/{receipt}", headers=exporter.authorized)
    return answer.status_code, answer.json()


async def state(exporter: Service, receipt: str) -> tuple[str, str | None]:
    status, body = await ask(exporter, receipt)
    assert status == 200, body
    return body["state"], body.get("result")


def without_time(receipt: str) -> str:
    return receipt.rpartition("-")[0]


async def test_receipts_are_correct_after_a_lost_end(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    topic = topics_from(broken).submissions.name
    extra = {"AFTER_TIMEOUT_SECONDS": "2"}
    async with (
        sound_worker(broken, tmp_path) as worker,
        Service("exporter", broken, tmp_path, **extra) as exporter,
    ):
        await exporter.wait_until_ready()
        applied = [await receipt_of(broken, A, value) for value in (1, 2, 3)]
        assert (await exporter.scrape(*applied)).status_code == 200
        await worker.end()
        unread = [await receipt_of(broken, A, value) for value in (4, 5)]
        await power_cut(own_kafka, {topic: 2})
        fresh = [await receipt_of(broken, A, value) for value in (6, 7)]
        assert [without_time(each) for each in fresh] == [
            without_time(applied[2]),
            without_time(unread[0]),
        ]

        # No worker has compared yet.
        assert await state(exporter, applied[1]) == ("processed", "applied")
        assert await state(exporter, applied[2]) == ("processed", None)
        assert [await state(exporter, each) for each in unread] == [("lost", None)] * 2
        assert [await state(exporter, each) for each in fresh] == [("queued", None)] * 2
        assert await state(exporter, without_time(fresh[0])) == ("ambiguous", None)
        assert (await exporter.scrape(*fresh)).status_code == 504

        await worker.start()
        await until(broken, applied=5)
        assert 'client_bytes_sent{client_id="' + A in (await exporter.scrape(*fresh)).text
        for again in (False, True):
            if again:
                await exporter.end()
                await exporter.start()
                await exporter.wait_until_ready()
            assert await state(exporter, applied[1]) == ("processed", "applied")
            assert await state(exporter, applied[2]) == ("processed", None)
            assert [await state(exporter, each) for each in unread] == [("lost", None)] * 2
            assert [await state(exporter, each) for each in fresh] == [("processed", "applied")] * 2
            for each in (applied[2], *fresh):
                assert await state(exporter, without_time(each)) == ("ambiguous", None)
            assert await state(exporter, without_time(applied[1])) == ("processed", "applied")
            assert (await exporter.scrape(applied[2], *fresh)).status_code == 200
            gone = await exporter.scrape(unread[0])
            assert gone.status_code == 410
        shown = (await exporter.scrape()).text
        assert '\ntobogganing_pipeline_histories_total{partition="0"} 1.0\n' in shown
        assert '\ntobogganing_pipeline_missing_records{partition="0"} 0.0\n' in shown


async def test_submissions_cut_above_the_ledger_are_lost_even_if_the_topic_has_grown_past_them(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """The ledger has the same history, so no new one begins."""
    topic = topics_from(broken).submissions.name
    extra = {"AFTER_TIMEOUT_SECONDS": "10"}
    async with (
        sound_worker(broken, tmp_path) as worker,
        Service("exporter", broken, tmp_path, **extra) as exporter,
    ):
        await exporter.wait_until_ready()
        read = [await receipt_of(broken, A, value) for value in (1, 2)]
        assert (await exporter.scrape(*read)).status_code == 200
        await worker.end()
        kept, *lost = [await receipt_of(broken, A, value) for value in (3, 4, 5, 6)]
        await power_cut(own_kafka, {topic: 3})
        fresh = [await receipt_of(broken, B, value) for value in (7, 8)]
        assert [await state(exporter, each) for each in lost] == [("lost", None)] * 3
        gone = asyncio.create_task(exporter.scrape(lost[0]))
        await worker.start()
        assert (await gone).status_code == 410, "it was requested before a worker had read that far"
        fresh += [await receipt_of(broken, B, value) for value in (9, 10)]
        assert (await exporter.scrape(kept, *fresh)).status_code == 200
        ledger = await until(broken, applied=7)
        assert (ledger.parted, len(ledger.epochs)) == (0, 2)
        for again in (False, True):
            if again:
                await exporter.end()
                await exporter.start()
                await exporter.wait_until_ready()
            for each in lost:
                assert await state(exporter, each) == ("lost", None)
                answer = await exporter.scrape(each)
                assert (answer.status_code, "has lost" in answer.text) == (410, True)
            for each in (*read, kept, *fresh):
                assert (await state(exporter, each))[0] == "processed"
                assert (await exporter.scrape(each)).status_code == 200


async def test_receipts_are_correct_after_a_clock_went_back(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """The times of records counted before the cut equal those of records after it."""
    topic = topics_from(broken).submissions.name
    async with (
        sound_worker(broken, tmp_path) as worker,
        Service("exporter", broken, tmp_path) as exporter,
    ):
        await exporter.wait_until_ready()
        counted = [await receipt_of(broken, A, value) for value in (1, 2, 3)]
        assert (await exporter.scrape(*counted)).status_code == 200
        await worker.end()
        await power_cut(own_kafka, {topic: 1})
        fresh = [await receipt_of(broken, A, value) for value in (4, 5, 6)]
        await worker.start()
        ledger = await until(broken, applied=6, parted=1)
        await worker.end()

        # As if the clock had been an hour ahead before the cut.
        ahead = 3_600_000
        ledger.newest += ahead
        ledger.histories = tuple(
            msgspec.structs.replace(each, newest=each.newest + ahead) for each in ledger.histories
        )
        first, *later = ledger.epochs
        ledger.epochs = (
            msgspec.structs.replace(first, appended=first.appended + ahead),
            *(msgspec.structs.replace(each, newest=each.newest + ahead) for each in later),
        )
        async with row_writer(broken) as rows:
            await rows.send(0, ledger_key(0), encode_row(ledger))
        partition, offset, index, appended = counted[2].split("-")
        of_then = f"{partition}-{offset}-{index}-{int(appended) + ahead}"
        # Two submissions were cut off unread: the second history counts another record at the first
        # one's offset, and none at the second one's.
        never_read = [f"{partition}-{n}-{index}-{int(appended) + ahead}" for n in (3, 9)]
        assert (await exporter.scrape(of_then, *fresh)).status_code == 200
        assert await state(exporter, of_then) == ("processed", None)
        for each in never_read:
            assert await state(exporter, each) == ("lost", None)
            assert (await exporter.scrape(each)).status_code == 410
        assert [(await state(exporter, each))[0] for each in fresh] == ["processed"] * 3


async def test_an_exporter_shows_a_ledger_beyond_the_end(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    worker = a_worker(broken, "w", tmp_path)
    topic = topics_from(broken).submissions.name
    await ensure_topics(broken)
    async with running(worker), Service("exporter", broken, tmp_path) as exporter:
        await exporter.wait_until_ready()
        applied = [await receipt_of(broken, A, value) for value in (1, 2, 3)]
        assert (await exporter.scrape(*applied)).status_code == 200
        await worker.end()
        await power_cut(own_kafka, {topic: 1})
        wanted = '\ntobogganing_pipeline_missing_records{partition="0"} 2.0\n'

        async def is_shown() -> bool:
            return wanted in (await exporter.scrape()).text

        await eventually(is_shown)
        assert (await exporter.scrape(without_time(applied[2]))).status_code == 503


async def test_a_ledger_of_the_previous_version_is_accepted_and_completed(
    settings: KafkaSettings, rows: RowWriter, tmp_path: Path
) -> None:
    await send(settings, A, 1, 2)
    old = b'{"version":1,"offset":1,"read":2,"applied":2,"stale":0,"late":0,"dead_lettered":0,'
    await rows.send(0, ledger_key(0), old + b'"lost":0}')
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await send(settings, A, 3)
        ledger = await until(settings, applied=3)
    assert worker.faults() == []
    assert ledger.version == 1
    assert ledger.mark is not None
    assert (ledger.mark.offset, ledger.mark.epoch, ledger.parted) == (2, 0, 0)
    assert ledger.newest == ledger.mark.appended > 0


async def test_an_uncertain_source_stops_visibly_until_an_operator_decides(
    settings: KafkaSettings, rows: RowWriter, tmp_path: Path, signing_keys: str
) -> None:
    """A ledger of an older version does not identify its history."""
    await send(settings, A, 1, 2, 3)
    await rows.ledger(0, 9, fills=False, read=10, applied=10)
    worker = a_worker(settings, "w", tmp_path)
    command = kafka_command(settings)
    extra = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    async with worker, Service("gateway", settings, tmp_path, **extra) as gateway:
        await gateway.wait_until_ready()
        keys = {id: await register(gateway, id) for id in (A, *ids_of(1, PARTITIONS, 1))}
        reasons = (await worker.until("/-/ready", 503)).text

        async def waits_for_operator() -> bool:
            nonlocal reasons
            reasons = (await worker.http.get("/-/ready")).text
            return "operator" in reasons

        await eventually(waits_for_operator)
        assert "partition 0" in reasons
        assert "but its ledger is at 9 and was written by an older version" in reasons

        accepted = 0

        async def answers(status: int) -> bool:
            nonlocal accepted
            found = await submit(gateway, A, keys[A])
            accepted += found == 200
            return found == status

        await eventually(lambda: answers(503))
        (other,) = keys.keys() - {A}
        assert await submit(gateway, other, keys[other]) == 200, "other partitions continue"
        listing = (await command("history", "show", "--json")).document["partitions"]
        assert [each["verdict"] for each in listing] == ["uncertain", "same"]
        assert "needs no decision" in await command.bad("history", "begin", "1", "--at", "end")

        begun = (await command.good("history", "begin", "0", "--at", "1", "--json")).document
        assert (begun["offset"], begun["logical_offset"]) == (1, 10)
        await worker.wait_until_ready()
        await eventually(lambda: answers(200))
        assert (await until(settings, read=10 + 2 + accepted)).parted == 1
    assert worker.faults() == []


async def test_a_drained_backup_rejects_a_topic_that_is_not_its_ledgers(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """The topic has grown to exactly the ledger's offset before the cut: there is no lag."""
    command = kafka_command(broken)
    file = tmp_path / "all.ndjson.gz"
    backup = ("backup", str(file), "--drained", "--wait", "0")
    async with sound_worker(broken, tmp_path) as worker:
        await send(broken, A, 1, 2, 3)
        await until(broken, applied=3)
        await worker.end()
        await command.good(*backup)
        await command.good("topics", "repair")
        file.unlink()
        await power_cut(own_kafka, {topics_from(broken).submissions.name: 1})
        assert await send(broken, B, 4, 5) == [1, 2]
        refused = await command(*backup)
        assert refused.status == 1
        assert "Error: partition 0: the log has lost its end" in refused.err
        assert not file.exists()
        await worker.start()
        await until(broken, applied=5)
        assert (await command.good(*backup, "--json")).document["rows"] == 2


async def register(gateway: Service, id: str) -> dict[str, str]:
    answer = await gateway.http.post(
        "/api/v1/clients/register",
        json={"name": id, "type": "native", "client_id": id},
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
    )
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['api_key']}"}


async def submit(gateway: Service, id: str, headers: dict[str, str]) -> int:
    body = {"metrics": {"bytes_sent": 7}}
    answer = await gateway.http.post(f"/api/v1/clients/{id}/metrics", json=body, headers=headers)
    return int(answer.status_code)


async def end_of(settings: KafkaSettings, topic: str) -> int:
    async with TopicReader(settings, topic, [0]) as reader:
        return (await reader.end_offsets())[0]


@pytest.mark.parametrize(
    "both",
    [
        pytest.param(False, id="changelog", marks=pytest.mark.long),
        pytest.param(True, id="changelog-and-source"),
    ],
)
async def test_a_worker_rewrites_rows_that_the_changelog_has_lost(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path, both: bool
) -> None:
    """No applied submission is lost, although Kafka has lost its row. Foreign rows are repaired."""
    topics = topics_from(broken)
    async with sound_worker(broken, tmp_path, SWEEP_INTERVAL_SECONDS="3600") as worker:
        await send(broken, A, 1, 2)
        await until(broken, applied=2)
        kept = await end_of(broken, topics.entity_state.name)
        await send(broken, A, 3)
        await send(broken, B, 4)
        before = await until(broken, applied=4)
        cut = {topics.entity_state.name: kept}
        await power_cut(own_kafka, cut | ({topics.submissions.name: 3} if both else {}))

        async def is_back() -> bool:
            return await shown(broken) == {A: 3, B: 4}

        await eventually(is_back)
        after = await until(broken, applied=4, parted=int(both))
        assert after.offset == before.offset
        async with row_writer(broken) as zombie:
            await zombie.row(f"client:{A}", 0, incarnation=1, metrics={"bytes_sent": 1})
        assert await shown(broken) == {A: 1, B: 4}
        await send(broken, C, 5)
        await until(broken, applied=5)

        async def is_repaired() -> bool:
            return await shown(broken) == {A: 3, B: 4, C: 5}

        await eventually(is_repaired)
        await worker.end()
        await worker.start()
        await send(broken, C, 6)
        await until(broken, applied=6)
        assert await shown(broken) == {A: 3, B: 4, C: 6}


async def test_records_lost_by_both_topics_are_read_as_new(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """No worker remembers them; records appended afterwards still count."""
    topics = topics_from(broken)
    async with sound_worker(broken, tmp_path, SWEEP_INTERVAL_SECONDS="3600") as worker:
        await send(broken, A, 1, 2)
        await until(broken, applied=2)
        kept = await end_of(broken, topics.entity_state.name)
        await send(broken, A, 3, 4, 5)
        await until(broken, applied=5)
        await worker.end()
        await power_cut(own_kafka, {topics.entity_state.name: kept, topics.submissions.name: 1})
        await send(broken, B, 7, 8, 9)
        await worker.start()
        ledger = await until(broken, applied=5)
        assert ledger.parted == 1
        assert await shown(broken) == {A: 2, B: 9}
