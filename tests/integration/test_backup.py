"""`tobogganing backup` and `restore` of a lost registry."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from contract.entity import entity_key
from contract.row import ROW_VERSION
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.command_line import CommandLine, kafka_command, submits
from tests.integration.frames import FrameWriter, client, ids_of
from tests.integration.processes import Service, row_writer
from tests.integration.test_commands import status_of, token_of
from tests.integration.workers import WorkerLoad, a_worker, running, settled
from tests.waiting import pause
from tobogganing.backup.topic_snapshot import RegistrySnapshot


async def lose(settings: KafkaSettings, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    async with admin_client(settings) as admin:
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            topics = [topic]
            while topic in topics:
                topics = await admin.list_topics()
                await pause(0.02)


async def rotated(manager: Service, id: str, key: str, times: int = 100) -> str:
    """Rotate a client's key repeatedly; return the last one."""
    for _ in range(times):
        headers = {"authorization": f"Bearer {key}"}
        answer = await manager.http.post(
            f"/api/v1/clients/{id}/rotate-key", json={}, headers=headers
        )
        key = answer.json()["new_api_key"]
    return key


async def test_a_lost_registry_is_restored(
    kafka_settings: KafkaSettings, manager: Service, tmp_path: Path
) -> None:
    command = kafka_command(kafka_settings, manager.url)

    async def add(id: str) -> str:
        words = ("clients", "add", id, "--type", "native", "--id", id, "--json")
        return str((await command.good(*words)).document["api_key"])

    old_key = await add("a")
    key = (await command.good("clients", "rotate", "a", "--json")).document["new_api_key"]
    removed_key = await add("removed")
    await command.good("clients", "remove", "removed")
    place = ("--region", "eu", "--datacenter", "fra1")
    await command.good("clusters", "add", "Frankfurt", "--id", "fra", *place)
    add_headend = ("headends", "add", "H1", "--id", "h1", "--cluster-id", "fra", "--json")
    headend_key = (await command.good(*add_headend)).document["api_key"]
    token = await token_of(command, headend_key)
    # Makes incarnations higher than the first offsets of a new topic.
    key = await rotated(manager, "a", key)
    again_key = await add("again")
    assert await submits(manager, "again", again_key) == 200

    file = str(tmp_path / "registry.ndjson")
    await command.good("backup", file, "--registry")
    assert (tmp_path / "registry.ndjson").stat().st_mode & 0o777 == 0o600
    before = await RegistrySnapshot.load(kafka_settings)
    # Registered after the backup: only the rows know it.
    await rotated(manager, "again", again_key)
    assert await submits(manager, "since", await add("since")) == 200
    await manager.end()
    await lose(kafka_settings, topics_from(kafka_settings).registry.name)

    restored = (await command.good("restore", file, "--registry", "--json")).document
    assert restored["records"]["there"] == restored["written"]["records"]
    await command.good("restore", file, "--registry", "--check")
    after = await RegistrySnapshot.load(kafka_settings)
    known = dict(before.state.items())
    assert dict(after.state.items()) == known, "revisions, generations, hashes, removals"

    await manager.start()
    await manager.wait_until_ready()
    assert await submits(manager, "a", key) == 200
    assert await submits(manager, "a", old_key) == 401
    assert await submits(manager, "removed", removed_key) == 401
    assert await status_of(manager, token) == 200, "a token that was issued before"
    await command.good("clients", "rotate", "a")
    record = (await RegistrySnapshot.load(kafka_settings)).state.get(entity_key("client", "a"))
    held = before.state.get(entity_key("client", "a"))
    assert record is not None
    assert held is not None
    assert (record.revision, record.incarnation) == (held.revision + 1, held.incarnation)

    # A new registration has a higher incarnation: its submissions are not stale.
    await command.good("clients", "remove", "again")
    for id in ("again", "since"):
        api_key = await add(id)
        answer = await manager.http.post(
            f"/api/v1/clients/{id}/metrics",
            json={"metrics": {"bytes_sent": 77}},
            headers={"authorization": f"Bearer {api_key}"},
        )
        page = (await manager.scrape(answer.json()["receipt"])).text
        assert f'tobogganing_client_bytes_sent{{client_id="{id}"' in page
    again = (await command.good("restore", file, "--registry", "--json")).document
    assert again["written"] == {"records": 0, "rows": 0}, "newer records stay unchanged"


async def test_rows_are_for_an_installation_without_processors(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    (a,) = ids_of(0, settings.kafka_partitions, 1)
    await frames.frame(0, client(a, bytes_sent=1))
    file = str(tmp_path / "all.ndjson.gz")
    command = kafka_command(settings)
    lag = await command.bad("backup", file, "--drained", "--wait", "0")
    assert "partition 0: a processor has not read 1 record" in lag
    assert not (tmp_path / "all.ndjson.gz").exists()
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        await settled(settings)
        assert (await command.good("backup", file, "--drained", "--json")).document["rows"] == 1
        with pytest.raises(MessageSizeTooLargeError):  # a gateway that was quiet, and writes again
            await frames.frame(0, client(a, bytes_sent=2))
        repaired = await command.good("topics", "repair", "--json")
        assert repaired.document["setting"] == "max.message.bytes"
        load = WorkerLoad(settings)
        async with load.running():
            ended = await command("backup", file, "--drained")
        assert ended.status == 1
        assert "Error: a gateway still writes" in ended.err
        assert "runs: rows are restored before any" in await command.bad("restore", file)
        assert await worker.end() == 0
    # A worker's name stays in its group for one session after its end.
    line = "runs: rows are restored"
    async with asyncio.timeout(30):
        while "runs: rows are restored" in line:
            line = await command.bad("restore", file)
            await pause(0.5)
    assert "a processor has already run" in line
    assert (await command.good("restore", file, "--registry")).out.startswith("registry: 0 written")
    other = kafka_command(settings, KAFKA_PARTITIONS="7")
    assert "fixed when an installation is created" in await other.bad("restore", file)


async def test_undecodable_dead_letters(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """Undecodable records are left out with a note; those of a newer version are an error."""
    a, b = ids_of(0, settings.kafka_partitions, 2)
    file = tmp_path / "all.ndjson"
    command = kafka_command(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    registry = (await ensure_topics(settings)).registry.name
    async with row_writer(settings) as rows:
        await producer.start()
        try:
            await rows.row(f"client:{a}", offset=5)
            await rows.send(0, f"client:{b}".encode(), b"rubbish")
            await producer.send_and_wait(registry, b"rubbish", key=b"client:x", partition=0)
            ended = await command.good("backup", str(file), "--json")
            assert ended.document["unreadable"] == {"records": 1, "rows": 1}
            nowhere = await command("backup", str(tmp_path / "no" / "folder"))
            assert nowhere.err.endswith("No such file or directory\n"), nowhere
            assert "that cannot be decoded" in (await command.good("backup", str(file))).err
            newer = b'{"version":%d,"offset":6,"index":0}' % (ROW_VERSION + 1)
            await rows.send(0, f"client:{b}".encode(), newer)
            ended = await command("backup", str(file))
            assert ended.status == 1
            assert "use the command of the version that wrote it" in ended.err
            assert file.exists(), "the previous file stays"
        finally:
            await producer.stop()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("rubbish", "is not a backup"),
        ('{"is":"end","records":0,"rows":0}\n', "has no header"),
    ],
)
async def test_a_file_that_is_not_a_backup(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "file"
    await asyncio.to_thread(file.write_text, text)
    command = CommandLine("http://127.0.0.1:1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert fault in await command.bad("restore", str(file))
