"""`tobogganing ledger --audit`: counts the topic itself, with all invalid records in it."""

from pathlib import Path

from service.config.settings import KafkaSettings
from service.kafka.topics import topics_from
from tests.integration.command_line import kafka_command
from tests.integration.frames import PARTITIONS, FrameWriter, client, delete_records, ids_of
from tests.integration.processes import Service, row_writer
from tests.integration.workers import a_worker, running, settled


async def test_the_topic_is_counted_again(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """Corrupt frames, late ones, foreign submissions, and frames after the ledger."""
    a, b = ids_of(0, PARTITIONS, 2)
    (foreign,) = ids_of(1, PARTITIONS, 1)
    for number in range(40):
        await frames.frame(0, client(a, bytes_sent=number), client(b), client(foreign))
    await frames.frame(0, client(a), client(b), answer_by=1)
    for value in (b"rubbish", b"", None, b'{"version":2}', b'{"version":1,"answer_by":1}'):
        await frames.raw(0, value)
    await frames.frame(1, client(foreign))
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker), Service("exporter", settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        await settled(settings)
        assert (await exporter.scrape("0-45-0", "1-0-0")).status_code == 200
        await worker.end()
        await frames.frame(0, client(a))  # in flight: the ledger does not cover it
        command = kafka_command(settings, exporter.url)
        ended = await command.good("ledger", "--audit", "--json")
        assert ended.document["balances"] is True
        assert ended.document["audit"] == [
            {
                "partition": 0, "from": 0, "records": 46, "submissions": 127, "late": 2,
                "undecodable": 5, "whole": True, "agrees": True,
            },
            {
                "partition": 1, "from": 0, "records": 1, "submissions": 1, "late": 0,
                "undecodable": 0, "whole": True, "agrees": True,
            },
        ]  # fmt: skip
        assert "47 of 47" in ended.err, "the progress"
        lines = (await command.good("ledger", "--audit")).out.splitlines()
        assert lines[5].split() == [
            *("PARTITION", "FROM", "RECORDS", "SUBMISSIONS", "LATE", "UNDECODABLE", "AGREES"),
        ]
        assert lines[6].split() == ["0", "0", "46", "127", "2", "5", "yes"]

        await delete_records(settings, topics_from(settings).submissions.name, 0, before=41)
        ended = await command.good("ledger", "--audit")
        assert "partition 0 can be compared from offset 41 on" in ended.err
        assert ended.out.splitlines()[6].split() == ["0", "41", "5", "5", "0", "5", "yes"]


async def test_a_ledger_that_contradicts_the_topic(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """It balances, but is wrong."""
    (a,), (b,) = ids_of(0, PARTITIONS, 1), ids_of(1, PARTITIONS, 1)
    for _ in range(3):
        await frames.frame(0, client(a), client(a))
    await frames.frame(1, client(b))
    async with row_writer(settings) as rows, Service("exporter", settings, tmp_path) as exporter:
        await rows.ledger(0, 2, fills=False, read=5, applied=5)
        await rows.ledger(1, 7, fills=False, read=1, applied=1)
        await exporter.wait_until_ready()
        command = kafka_command(settings, exporter.url)
        assert (await command.good("ledger")).err == ""
        ended = await command("ledger", "--audit")
        assert ended.status == 1
        assert "partition 0 does not agree: submissions: 6 in the topic, 5 in" in ended.err
        assert "partition 1 does not agree: the topic ends before offset 7" in ended.err
        ended = await command("ledger", "--audit", "--json")
        assert ended.status == 1
        assert [each["agrees"] for each in ended.document["audit"]] == [False, False]
