"""Dead letters: listed, shown, replayed and purged by commands on a real Kafka."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contract.dead_letter import WHOLE_FRAME, DeadLetterSource, encode_source
from contract.entity import entity_key
from contract.frame import encode_frame
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.row import EntityRow, decode_entity_row
from processor.changelog.producer import DEAD_LETTER_BYTES
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from
from tests.integration.command_line import CommandLine
from tests.integration.frames import PARTITIONS, FrameWriter, client, ids_of
from tests.integration.workers import Found, a_worker, running, settled

SECRET = b"\xff\x00 no \x1b[2J frame"


@pytest.fixture
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def command(settings: KafkaSettings) -> CommandLine:
    """The command gets Kafka's address but not the number of partitions."""
    return CommandLine(
        "http://127.0.0.1:1",
        KAFKA_BOOTSTRAP_SERVERS=settings.kafka_bootstrap_servers,
        KAFKA_TOPIC_PREFIX=settings.kafka_topic_prefix,
    )


async def register(
    settings: KafkaSettings, producer: AIOKafkaProducer, id: str, revision: int = 1, **values: Any
) -> None:
    record = RegistryRecord(
        RECORD_VERSION,
        "client",
        id,
        revision,
        id,
        {"type": "native"},
        **({"incarnation": 1} | values),
    )
    topic = topics_from(settings).registry.name
    await producer.send_and_wait(topic, encode_record(record), key=record.key, partition=0)


async def processed(settings: KafkaSettings, folder: Path) -> Found:
    """Let a worker process everything and return the resulting state."""
    async with running(worker := a_worker(settings, "w1", folder)):
        await settled(settings)
    assert worker.faults() == []
    return await Found.of(settings)


def row(found: Found, id: str) -> EntityRow:
    return decode_entity_row(found.rows[entity_key("client", id)])


async def test_dead_letters_are_listed_shown_and_purged(
    settings: KafkaSettings, frames: FrameWriter, command: CommandLine, tmp_path: Path
) -> None:
    (foreign,) = ids_of(1, PARTITIONS, 1)
    await frames.raw(0, b'{"version":2}')
    await frames.frame(0, client(foreign, bytes_sent=7))
    await processed(settings, tmp_path)
    await frames.raw(1, SECRET)
    await processed(settings, tmp_path)

    listed = (await command.good("dead-letters", "list", "--json")).documents
    assert [each["id"] for each in listed] == ["0-0", "0-1", "1-0"]
    assert [(each["partition"], each["offset"], each["index"]) for each in listed] == [
        (0, 0, WHOLE_FRAME),
        (0, 1, 0),
        (1, 0, WHOLE_FRAME),
    ]
    assert listed[0]["reason"] == "frame version 2 is not supported"
    lines = (await command.good("dead-letters", "list")).out.splitlines()
    assert lines[0].split() == ["ID", "WRITTEN_AT", "SOURCE", "SIZE", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == ["0-0", "0-1", "1-0"]
    assert "frame 0-0" in lines[1]
    assert " 0-1-0-" in lines[2]

    async def ids(*options: str) -> list[str]:
        ended = await command.good("dead-letters", "list", "--json", *options)
        return [each["id"] for each in ended.documents]

    assert await ids("--partition", "1") == ["1-0"]
    assert await ids("--reason", "NOT A FRAME") == ["1-0"]
    assert await ids("--since", "1h") == ["0-0", "0-1", "1-0"]
    assert await ids("--since", listed[2]["written_at"]) == ["1-0"]
    assert await ids("--since", "0s") == []
    assert await ids("--limit", "2") == ["0-0", "0-1"]
    assert "no partition 2" in await command.bad("dead-letters", "list", "--partition", "2")

    shown = (await command.good("dead-letters", "show", "0-1")).out
    assert "does not belong to partition 0" in shown
    assert '\n  "metrics": {\n    "bytes_sent": 7\n  }' in shown
    odd = (await command.good("dead-letters", "show", "1-0")).out
    assert "\\xff\\x00 no \\x1b[2J frame" in odd
    assert odd.replace("\n", "").isprintable()
    document = (await command.good("dead-letters", "show", "0-1", "--json")).document
    assert json.loads(document["value"])["id"] == foreign
    assert "value_base64" in (await command.good("dead-letters", "show", "1-0", "--json")).document
    async with command.started("dead-letters", "show", "1-0", "--raw") as process:
        assert (await process.communicate())[0] == SECRET
    assert "no dead letter 0-2" in await command.bad("dead-letters", "show", "0-2")
    assert "no dead letter 9-0" in await command.bad("dead-letters", "show", "9-0")

    assert (await command("dead-letters", "purge", "--all", stdin="n\n")).status == 1
    assert (await command("dead-letters", "purge", "--all")).status == 1, "without a confirmation"
    assert len(await ids()) == 3
    assert "no dead letter 0-5" in await command.bad(
        "dead-letters", "purge", "--to", "0-5", "--yes"
    )
    assert (await command.good("dead-letters", "purge", "--before", "1h", "-y", "--json")).document[
        "deleted"
    ] == 0
    await command.good("dead-letters", "purge", "--to", "0-0", stdin="y\n")
    assert await ids() == ["0-1", "1-0"]
    assert (await command.good("dead-letters", "purge", "--before", "0s", "--yes")).out == (
        "deleted 2 dead letters\n"
    )
    assert await ids() == []
    assert "was purged" in await command.bad("dead-letters", "show", "0-1")


async def test_a_replay_processes_each_submission_once(
    settings: KafkaSettings,
    frames: FrameWriter,
    producer: AIOKafkaProducer,
    command: CommandLine,
    tmp_path: Path,
) -> None:
    """Submissions in a wrong partition; one entity has newer data, another has been
    removed since."""
    a, b, gone, anew = ids_of(1, PARTITIONS, 4)
    await register(settings, producer, a)
    await register(settings, producer, b)
    await register(settings, producer, gone)
    await register(settings, producer, gone, revision=2, removed=True)
    await register(settings, producer, anew, incarnation=2)
    await frames.frame(0, client(a, bytes_sent=1), client(b, bytes_sent=1))
    await frames.frame(0, client(gone, bytes_sent=1), client(anew, bytes_sent=1))
    await frames.frame(0, client(anew, timestamp=77.0), client("nobody", bytes_sent=1))
    await frames.raw(0, SECRET)
    await frames.frame(1, client(b, bytes_sent=2))
    before = await processed(settings, tmp_path)
    assert entity_key("client", a) not in before.rows

    listed = (await command.good("dead-letters", "list", "--json")).documents
    appended = {each["id"]: each["appended_at"] for each in listed}
    replayed = await command("dead-letters", "replay", "--all", "--json")
    assert replayed.status == 1
    done = replayed.document
    assert (done["letters"], done["submissions"], done["copies"]) == (2, 2, 0)
    assert done["read"] == done["letters"] + done["copies"] + done["staying"] == len(listed)
    stay = {each["id"]: each["why"] for each in done["stay"]}
    assert len(stay) == done["staying"] == len(listed) - 2
    reasons = sorted(stay.values())
    assert any("not a frame" in why for why in reasons)
    assert any(f"client:{gone} is no longer registered" in why for why in reasons)
    assert any(f"client:{anew} was registered again since" in why for why in reasons)

    found = await processed(settings, tmp_path)
    came_back = row(found, a)
    assert came_back.metrics == {"bytes_sent": 1}
    first = next(id for id, each in zip(appended, listed, strict=True) if each["index"] == 0)
    expected = appended[first].replace("Z", "+00:00")
    assert f"{came_back.last_check_in:.3f}" == f"{_seconds(expected):.3f}"
    assert row(found, b) == row(before, b), "newer data is kept"
    assert not {entity_key("client", gone), entity_key("client", anew)} & found.rows.keys()
    assert found.ledgers[1].stale == before.ledgers[1].stale + 1

    await frames.frame(1, client(a, bytes_sent=9))
    newest = await processed(settings, tmp_path)
    for _ in range(2):
        await command("dead-letters", "replay", "--all")
    again = await processed(settings, tmp_path)
    assert again.rows == newest.rows
    for ledger in again.ledgers.values():
        assert ledger.balances
    assert len((await command.good("dead-letters", "list", "--json")).documents) == len(listed)

    one = (await command.good("dead-letters", "replay", first, "--json")).document
    assert (one["submissions"], one["staying"]) == (1, 0)
    assert one["receipts"][0].startswith("1-"), "its own partition"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_truncated_frame_is_read_from_its_source(
    settings: KafkaSettings,
    frames: FrameWriter,
    producer: AIOKafkaProducer,
    command: CommandLine,
    tmp_path: Path,
) -> None:
    """As left by an older processor; the command supports the frame's version."""
    (a,) = ids_of(1, PARTITIONS, 1)
    await register(settings, producer, a)
    members = [client(a, timestamp=float(n), bytes_sent=n) for n in range(1, 8000)]
    frame = encode_frame(2**53, members)
    assert len(frame) > DEAD_LETTER_BYTES
    sent = await frames.appended(0, *members)
    topic = topics_from(settings).dead_letter.name
    for lost in (sent.offset, sent.offset + 1):
        reason, at = "frame version 1 is not supported", sent.timestamp
        source = DeadLetterSource(reason, lost, WHOLE_FRAME, at, len(frame))
        await producer.send_and_wait(
            topic, frame[:DEAD_LETTER_BYTES], partition=0, headers=encode_source(source)
        )
    shown = (await command.good("dead-letters", "list", "--json")).documents[0]
    assert (shown["size"], shown["kept"]) == (len(frame), DEAD_LETTER_BYTES)
    done = (await command.good("dead-letters", "replay", "0-0", "--json")).document
    assert done["submissions"] == len(members)
    stays = await command("dead-letters", "replay", "0-1")
    assert stays.status == 1
    assert "only the beginning of a frame" in stays.err
    found = await processed(settings, tmp_path)
    assert row(found, a).metrics == {"bytes_sent": 7999}


async def test_letters_that_fail_again_do_not_multiply(
    settings: KafkaSettings, producer: AIOKafkaProducer, frames: FrameWriter, command: CommandLine
) -> None:
    """Each failed replay adds a letter with the same submission; it is sent once."""
    (a,) = ids_of(0, PARTITIONS, 1)
    await register(settings, producer, a)
    topic = topics_from(settings).dead_letter.name
    value = encode_frame(2**53, [client(a, timestamp=5.0)])
    for offset in range(3):
        source = DeadLetterSource("for some reason", offset, WHOLE_FRAME, 5)
        await producer.send_and_wait(topic, value, partition=0, headers=encode_source(source))
    done = (await command.good("dead-letters", "replay", "--all", "--json")).document
    assert (done["letters"], done["submissions"], done["repeated"]) == (1, 1, 2)
    assert (done["read"], done["copies"], done["staying"]) == (3, 2, 0)
    told = (await command.good("dead-letters", "replay", "0-0")).out.splitlines()
    assert told == [
        "1 dead letter: 1 sent again, 0 with copies only, 0 not sent or not completely",
        "1 submission sent",
    ]


async def test_late_frames_and_foreign_records_are_kept(
    settings: KafkaSettings, producer: AIOKafkaProducer, frames: FrameWriter, command: CommandLine
) -> None:
    topic = topics_from(settings).dead_letter.name
    value = encode_frame(4, [client("a")])
    origin = encode_source(DeadLetterSource("frame version 1 is not supported", 0, WHOLE_FRAME, 5))
    await producer.send_and_wait(topic, value, partition=0, headers=origin)
    await producer.send_and_wait(topic, b"something else", partition=0)
    ended = await command("dead-letters", "replay", "--all")
    assert ended.status == 1
    assert "0-0 stays: it came after its deadline" in ended.err
    assert "0-1 stays: it does not say where it comes from" in ended.err
    listed = (await command.good("dead-letters", "list", "--json")).documents
    assert "invalid dead-letter headers" in listed[1]["reason"]


async def test_the_address_of_kafka_is_required(
    settings: KafkaSettings, frames: FrameWriter, command: CommandLine, tmp_path: Path
) -> None:
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "", "KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix}
    local = CommandLine("http://127.0.0.1:1", STATE_DIR=str(tmp_path), **nowhere)
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in await local.bad("dead-letters", "list")
    (tmp_path / "kafka").mkdir()
    file = tmp_path / "kafka" / "bootstrap-servers"
    await asyncio.to_thread(file.write_text, settings.kafka_bootstrap_servers + "\n")
    assert (await local.good("dead-letters", "list")).out.split()[:2] == ["ID", "WRITTEN_AT"]
    assert (await local.good("dead-letters", "list", "--json")).out == ""

    other = CommandLine(
        "http://127.0.0.1:1",
        KAFKA_BOOTSTRAP_SERVERS=settings.kafka_bootstrap_servers,
        KAFKA_TOPIC_PREFIX=f"none-{os.getpid()}.",
    )
    assert "KAFKA_TOPIC_PREFIX" in await other.bad("dead-letters", "list")
    gone = CommandLine("http://127.0.0.1:1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert "Kafka at 127.0.0.1:1 did not respond: check KAFKA_BOOTSTRAP_SERVERS" in await gone.bad(
        "dead-letters", "list"
    )
