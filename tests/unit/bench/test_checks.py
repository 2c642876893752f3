"""A benchmark must notice lost and wrong data: otherwise its figures mean nothing."""

from collections.abc import Callable

import pytest

from bench.end_to_end import growth, latest
from bench.errors import WrongResultError
from bench.fleet import Clients, Headends
from bench.load import split_response
from bench.peers import gauges
from bench.scraping import check_scrape
from bench.workloads import Acknowledged, BatchWorkload, SingleWorkload, request_heads
from contract.frame import Submission, encode_frame
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from service.config.settings import KafkaSettings

NOW_MS = 1_700_000_000_000
CLIENTS = Clients(3)
KAFKA = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1")


def scrape(*numbers: int) -> bytes:
    return b"".join(gauges(CLIENTS, number, with_id=True, typed=False) for number in numbers)


def test_a_correct_scrape_passes() -> None:
    check_scrape(scrape(3, 1, 2), CLIENTS, [3, 1, 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.replace(b"1000000000001", b"1000000000000"),
        lambda body: body.replace(b'bytes_sent{client_id="client-0000001"', b"x{"),
        lambda body: body + scrape(1),
        lambda body: body.replace(b"client-0000002", b"client-0000009"),
        lambda body: body[: len(body) // 2],
        lambda body: body.replace(b"3600.5", b"3600"),
    ],
    ids=["old value", "no sample", "twice", "unknown client", "cut off", "another value"],
)
def test_a_wrong_scrape_is_noticed(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(WrongResultError):
        check_scrape(spoil(scrape(0, 1, 2)), CLIENTS, [0, 1, 2])


def test_each_request_has_its_clients_credential() -> None:
    work = SingleWorkload(Acknowledged(KAFKA), CLIENTS, 4, request_heads(CLIENTS))
    for number in range(4):
        request = work.next()
        assert request is not None
        head, _, body = request[1].partition(b"\r\n\r\n")
        assert CLIENTS.path(number).encode() in head
        assert CLIENTS.credential(number).encode() in head
        assert b"Content-Length: %d\r\n" % len(body) in head
        assert str(CLIENTS.metrics(number)["bytes_sent"]).encode() in body
    assert work.next() is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"{}"),
        (200, b'{"status":"metrics_received","receipt":"0-1-0"}'),
        (200, b'{"status":"queued","receipt":"0-2-0"}'),
    ],
    ids=["refused", "a receipt twice", "another status"],
)
def test_a_wrong_response_is_noticed(status: int, body: bytes) -> None:
    work = SingleWorkload(Acknowledged(KAFKA), CLIENTS, 2, request_heads(CLIENTS))
    work.answered(0, 200, b'{"status":"metrics_received","receipt":"0-1-0"}')
    with pytest.raises(WrongResultError):
        work.answered(1, status, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"accepted":1,"rejected":[],"receipts":["0-1-0"]}',
        b'{"accepted":2,"rejected":[],"receipts":["0-1-0"]}',
        b'{"accepted":1,"rejected":[{"index":1}],"receipts":["0-1-0","0-1-1"]}',
    ],
)
def test_an_incomplete_batch_is_noticed(body: bytes) -> None:
    work = BatchWorkload(Acknowledged(KAFKA), CLIENTS, 2, "key")
    with pytest.raises(WrongResultError):
        work.answered(0, 200, body)


def test_a_response_is_split_from_the_stream() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert split_response(response) == (200, b"ok")
    assert all(split_response(response[:end]) is None for end in range(len(response)))
    assert split_response(b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n") == (204, b"")
    for wrong in (response + b"H", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0"):
        with pytest.raises(WrongResultError):
            split_response(wrong)


def test_the_last_submission_of_each_client() -> None:
    assert latest(CLIENTS, 3) == [0, 1, 2]
    assert latest(CLIENTS, 7) == [6, 4, 5]


def test_memory_that_grows_is_noticed() -> None:
    steady = [{"gateway": 100.0 + second % 2} for second in range(40)]
    assert growth(steady)["gateway"] == pytest.approx(1, abs=0.01)
    growing = [{"gateway": 100.0 + second} for second in range(40)]
    assert growth(growing)["gateway"] == pytest.approx(134.5 / 114.5)


def test_clients_and_headends_are_healthy() -> None:
    """An anomaly costs more than a row, so a fleet with anomalies would be what is measured."""
    clients, headends = Clients(7), Headends(3)
    batch = WriteBatch(PartitionState(0))
    for number in range(70):
        headend = Submission(
            "headend", headends.id(number), 1, {"name": "h"}, metrics=headends.metrics(number)
        )
        frame = encode_frame(2**53, [clients.submission(number), headend])
        reduce_frame(batch, Record(0, number, NOW_MS + 10 * number, frame), partitions=1)
    assert batch.ledger.applied == 140
    assert batch.anomaly_counts == {}
