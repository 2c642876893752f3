"""The smallest benchmark runs, and notices submissions that a gateway loses."""

import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.workloads import Acknowledged
from contract.frame import Submission, encode_frame
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import ensure_topics, topics_from
from tests.modules import run_module

CLIENTS = Clients(4)
NEVER_LATE = 2**53
PATIENCE = 200


def members(*numbers: int) -> list[Submission]:
    return [
        Submission("client", CLIENTS.id(number), 0, metrics=CLIENTS.metrics(number))
        for number in numbers
    ]


async def send(settings: KafkaSettings, answer_by: int, submissions: list[Submission]) -> Receipt:
    """Append a frame to partition 0; return its first receipt."""
    producer = AIOKafkaProducer(**client_options(settings))
    await producer.start()
    try:
        topic = topics_from(settings).submissions.name
        value = encode_frame(answer_by, submissions)
        sent = await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()
    return Receipt(0, sent.offset, 0, sent.timestamp)


def receipts(first: Receipt, count: int) -> list[str]:
    return [str(first._replace(index=index)) for index in range(count)]


async def test_acknowledged_submissions_in_kafka_pass(kafka_settings: KafkaSettings) -> None:
    await ensure_topics(kafka_settings)
    acknowledged = Acknowledged(kafka_settings)
    for start in (0, 3):
        first = await send(kafka_settings, NEVER_LATE, members(start, start + 1, start + 2))
        acknowledged.take(receipts(first, 3), start)
        await acknowledged.check(CLIENTS)


@pytest.mark.parametrize(
    ("answer_by", "sent", "count"),
    [
        (NEVER_LATE, members(0, 1), 3),
        (NEVER_LATE, members(0, 1, 2), 2),
        (NEVER_LATE, members(0, 5, 2), 3),
        (1, members(0, 1, 2), 3),
    ],
    ids=["lost", "not acknowledged", "another's", "late"],
)
async def test_a_lost_or_wrong_submission_is_noticed(
    kafka_settings: KafkaSettings, answer_by: int, sent: list[Submission], count: int
) -> None:
    await ensure_topics(kafka_settings)
    acknowledged = Acknowledged(kafka_settings)
    acknowledged.take(receipts(await send(kafka_settings, answer_by, sent), count), 0)
    with pytest.raises(WrongResultError):
        await acknowledged.check(CLIENTS)


@pytest.mark.long
async def test_the_smallest_run_measures_every_subject(tmp_path: Path) -> None:
    code, text = await run_module(
        "bench", "--smallest", "--results", str(tmp_path), patience=PATIENCE
    )
    assert code == 0, text
    found = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    subjects = {each["subject"] for each in found["figures"]}
    assert subjects == {
        *("Gateway", "Gateway, batches", "Exporter", "Scrape", "End to end", "Fleet"),
    }
    for each in found["figures"]:
        assert all(values for values in each["figures"].values())
    assert "| Tobogganing gateway | 256 connections, API keys, 4 partitions |" in text
