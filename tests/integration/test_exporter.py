"""The exporter process on a real Kafka, with rows written as by a processor."""

import asyncio
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from contract.position import Position
from contract.row import ROW_VERSION, EntityRow, encode_row
from service.config.settings import KafkaSettings
from tests.integration.processes import RowWriter, Service, row_writer
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

CLIENT = "client:c-1"
LABELS = {"name": "Ann's box", "type": "docker", "headless": "false"}


@pytest.fixture
async def rows(kafka_settings: KafkaSettings) -> AsyncIterator[RowWriter]:
    async with row_writer(kafka_settings) as writer:
        yield writer


@pytest.fixture
async def exporter(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Service]:
    async with Service("exporter", kafka_settings, tmp_path) as service:
        await service.wait_until_ready()
        yield service


def samples(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(name + "{")]


async def own_metric(exporter: Service, name: str) -> float:
    response = await exporter.http.get("/-/metrics", headers=exporter.authorized)
    values = [line for line in response.text.splitlines() if line.startswith(name)]
    return max(float(line.rpartition(" ")[2]) for line in values)


async def test_rows_become_series(rows: RowWriter, exporter: Service) -> None:
    partition = rows.partition(CLIENT)
    await rows.row(CLIENT, 4, labels=LABELS, metrics={"bytes_sent": 1048576}, last_check_in=1.7e9)
    await rows.row("headend:h-1", 1, labels={"name": "h"}, metrics={"cpu_usage": 45.2})
    await rows.ledger(rows.partition("headend:h-1"), 1, read=1, applied=1)
    await rows.ledger(partition, 4, read=9, applied=5, stale=2, late=1, dead_lettered=1, lost=3)
    response = await exporter.scrape(f"{partition}-4-0", f"{rows.partition('headend:h-1')}-1-0")
    assert response.status_code == 200
    lines = response.text.splitlines()
    shown = 'client_id="c-1",headless="false",name="Ann\'s box",type="docker"'
    assert "tobogganing_client_bytes_sent{" + shown + "} 1048576" in lines
    assert "tobogganing_client_last_check_in_timestamp{" + shown + "} 1700000000.0" in lines
    assert samples(response.text, "tobogganing_client_bytes_received") == []
    assert len(samples(response.text, "tobogganing_headend_cpu_usage_percent")) == 1
    counts = {"read": 9, "applied": 5, "stale": 2, "late": 1, "dead_lettered": 1, "lost": 3}
    for field, count in counts.items():
        name = f"tobogganing_pipeline_{field}_total"
        assert f'{name}{{partition="{partition}"}} {count}.0' in lines
        assert len(samples(response.text, name)) == 4, "every partition has its counters"
    assert "tobogganing_manager_clients_total 0.0" in lines


async def test_openmetrics_and_gzip(rows: RowWriter, exporter: Service) -> None:
    await rows.row(CLIENT, 0, labels=LABELS)
    await rows.ledger(rows.partition(CLIENT), 0, read=1, applied=1)
    response = await exporter.scrape(
        f"{rows.partition(CLIENT)}-0-0",
        **{"accept": "application/openmetrics-text;version=1.0.0", "accept-encoding": "gzip"},
    )
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"].startswith(
        "application/openmetrics-text; version=1.0.0"
    )
    families = {
        family.name: family
        for family in text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]
    }
    family = families["tobogganing_client_last_check_in_timestamp"]
    assert family.type == "gauge"
    assert family.samples[0].labels == LABELS | {"client_id": "c-1"}
    assert families["tobogganing_pipeline_read"].type == "counter"
    assert families["tobogganing_manager_clients_total"].type == "gauge"


async def test_endpoints_that_need_the_token(exporter: Service) -> None:
    for path in ("/metrics", "/metrics?after=nonsense", "/-/metrics"):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic abc"}):
            response = await exporter.http.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json() == {"error": "Unauthorized"}
            assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/-/healthy", "/-/ready", "/health", "/healthz"):
        assert (await exporter.http.get(path)).status_code == 200
    assert (await exporter.http.get("/metric")).status_code == 404
    assert (await exporter.http.post("/metrics")).status_code == 405


async def test_after_waits_for_the_ledger(rows: RowWriter, exporter: Service) -> None:
    partition = rows.partition(CLIENT)
    waiting = asyncio.create_task(exporter.scrape(f"{partition}-7-2", f"{partition}-5-0"))
    await rows.row(CLIENT, 7, 2, metrics={"bytes_sent": 5})
    await rows.ledger(partition, 6, read=6, applied=6)
    assert (await exporter.scrape(f"{partition}-6-0")).status_code == 200
    assert not waiting.done()
    await rows.ledger(partition, 7, read=9, applied=9)
    response = await waiting
    assert len(samples(response.text, "tobogganing_client_bytes_sent")) == 1


async def test_after_is_rejected(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with Service(
        "exporter", kafka_settings, tmp_path, AFTER_TIMEOUT_SECONDS="0.2"
    ) as exporter:
        await exporter.wait_until_ready()
        for receipt, status in (("1-2", 400), ("4-0-0", 421), ("0-0-0", 504)):
            response = await exporter.scrape(receipt)
            assert response.status_code == status
            assert response.json()["error"]


async def test_labels_change_and_removed_entities_disappear(
    rows: RowWriter, exporter: Service
) -> None:
    partition = rows.partition(CLIENT)
    name = "tobogganing_client_last_check_in_timestamp"

    async def scraped_at(offset: int) -> str:
        await rows.ledger(partition, offset, read=offset + 1, applied=offset + 1)
        return (await exporter.scrape(f"{partition}-{offset}-0")).text

    await rows.row(CLIENT, 0, labels=LABELS | {"name": "old"})
    assert 'name="old"' in await scraped_at(0)
    await rows.row(CLIENT, 1, labels=LABELS | {"name": "new"})
    text = await scraped_at(1)
    assert 'name="old"' not in text
    assert len(samples(text, name)) == 1
    await rows.row(CLIENT, 0, labels=LABELS | {"name": "a zombie's"})
    assert 'name="new"' in await scraped_at(2)
    await rows.row(CLIENT, 3, removed=True)
    assert samples(await scraped_at(3), name) == []
    await rows.row(CLIENT, 4, incarnation=9, labels=LABELS)
    assert len(samples(await scraped_at(4), name)) == 1
    await rows.tombstone(CLIENT, Position(3, 0))
    assert len(samples(await scraped_at(5), name)) == 1
    await rows.tombstone(CLIENT, Position(4, 0))
    assert samples(await scraped_at(6), name) == []


async def test_unreadable_rows_are_counted_and_logged(rows: RowWriter, exporter: Service) -> None:
    partition = rows.partition(CLIENT)
    await rows.row(CLIENT, 0, labels=LABELS)
    await rows.send(partition, CLIENT.encode(), b"{")
    await rows.send(partition, b"gadget:g-1", b"{}")
    await rows.send(partition, b"nonsense", b"{}")
    await rows.ledger(partition, 1, read=1, applied=1)
    response = await exporter.scrape(f"{partition}-1-0")
    assert len(samples(response.text, "tobogganing_client_last_check_in_timestamp")) == 1
    assert await own_metric(exporter, "tobogganing_exporter_unreadable_rows_total") == 3
    assert await own_metric(exporter, 'tobogganing_exporter_entities{kind="client"}') == 1
    assert "row skipped" in exporter.log()


async def test_a_restart_serves_everything_or_nothing(rows: RowWriter, exporter: Service) -> None:
    count = 20_000
    row = encode_row(EntityRow(ROW_VERSION, 0, 0, 0, 0, 1.5, LABELS, {"bytes_sent": 1}))
    await rows.send_all({f"client:c-{n}": row for n in range(count)})
    for end in (signal.SIGTERM, signal.SIGKILL):
        assert await exporter.end(end) == (0 if end is signal.SIGTERM else -signal.SIGKILL)
        await exporter.start()
        await exporter.until("/-/healthy", 200)
        async with asyncio.timeout(60):
            while (response := await exporter.scrape()).status_code != 200:
                assert response.status_code == 503
                assert response.headers["retry-after"]
                assert "waiting for" in response.json()["error"]
                await pause()
        assert len(samples(response.text, "tobogganing_client_bytes_sent")) == count
        assert (await exporter.http.get("/-/ready")).status_code == 200


async def test_more_series_than_the_limit_are_rejected(
    kafka_settings: KafkaSettings, rows: RowWriter, tmp_path: Path
) -> None:
    """Two clients have five series, of which four are allowed; a removal makes the
    scrape possible."""
    await rows.row(CLIENT, 0, labels=LABELS, metrics={"bytes_sent": 1, "bytes_received": 1})
    await rows.row("client:c-2", 0, labels=LABELS, metrics={"bytes_sent": 1})
    for partition in range(kafka_settings.kafka_partitions):
        await rows.ledger(partition, 0, read=1, applied=1)
    async with Service("exporter", kafka_settings, tmp_path, MAX_SERIES="4") as exporter:
        await exporter.wait_until_ready()
        refused = await exporter.scrape()
        assert refused.status_code == 503
        assert refused.json()["error"] == (
            "There are 5 series, more than MAX_SERIES=4; increase it, or shard the exporters"
        )
        assert "Retry-After" in refused.headers
        assert await own_metric(exporter, "tobogganing_exporter_series ") == 5
        assert await own_metric(exporter, "tobogganing_exporter_series_limit ") == 4
        assert await own_metric(exporter, "tobogganing_exporter_scrapes_refused_total ") == 1
        assert (await exporter.http.get("/-/ready")).status_code == 200

        partition = rows.partition(CLIENT)
        await rows.row(CLIENT, 1, labels=LABELS, removed=True)
        await rows.ledger(partition, 1, read=2, applied=2)
        scrape = await exporter.scrape(f"{partition}-1-0")
        assert scrape.status_code == 200
        assert len(samples(scrape.text, "tobogganing_client_bytes_sent")) == 1
        assert await own_metric(exporter, "tobogganing_exporter_series ") == 2


async def test_without_kafka(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path
) -> None:
    """Kafka starts late, dies and restarts: scrapes continue, readiness reports it."""
    broker = own_kafka.brokers[0]
    async with row_writer(own_settings) as rows:
        partition = rows.partition(CLIENT)
        await rows.row(CLIENT, 0, labels=LABELS)
        await rows.ledger(partition, 0, read=1, applied=1)
    await broker.kill()

    async with Service("exporter", own_settings, tmp_path) as exporter:
        await exporter.until("/-/healthy", 200)
        not_ready = await exporter.until("/-/ready", 503)
        assert not_ready.json()["waiting_for"] == ["kafka", "entity-state", "registry"]
        assert (await exporter.scrape()).status_code == 503
        broker.launch()
        await exporter.wait_until_ready()
        scraped = (await exporter.scrape(f"{partition}-0-0")).text

        await broker.kill()
        not_ready = await exporter.until("/-/ready", 503)
        assert not_ready.json()["waiting_for"] == ["kafka"]
        assert (await exporter.scrape()).text == scraped
        assert await own_metric(exporter, "tobogganing_exporter_last_contact_seconds") > 1

        broker.launch()
        await own_kafka.wait_until_ready()
        async with row_writer(own_settings) as rows:
            await rows.row(CLIENT, 1, metrics={"bytes_sent": 1})
            await rows.ledger(partition, 1, read=2, applied=2)
        await exporter.wait_until_ready()
        response = await exporter.scrape(f"{partition}-1-0")
        assert len(samples(response.text, "tobogganing_client_bytes_sent")) == 1

        await broker.kill()
        await exporter.until("/-/ready", 503)
        started = time.monotonic()
        assert await exporter.end() == 0
        assert time.monotonic() - started < 8


async def test_head_returns_headers_without_rendering(exporter: Service) -> None:
    for encoding in ("identity", "gzip"):
        headers = exporter.authorized | {"accept-encoding": encoding}
        head = await exporter.http.head("/metrics", headers=headers)
        assert head.status_code == 200
        assert head.content == b""
        got = await exporter.http.get("/metrics", headers=headers)
        assert set(got.headers) - set(head.headers) == {"content-length"}
        assert head.headers["content-type"] == got.headers["content-type"]
    assert await own_metric(exporter, "tobogganing_exporter_scrape_duration_seconds_count") == 2
    assert (await exporter.http.head("/metrics")).status_code == 401


async def test_every_scrape_is_a_consistent_snapshot_under_load(
    rows: RowWriter, exporter: Service
) -> None:
    """Labels change with each row: no entity appears twice, and no number goes back."""
    keys = [f"client:c-{n}" for n in range(3_000)]
    rounds = 12

    async def write() -> None:
        for number in range(rounds):
            values = {key: number for key in keys if number % 3 != 2 or key.endswith("7")}
            await rows.send_all(
                {
                    key: encode_row(
                        EntityRow(
                            ROW_VERSION, number, 0, 0, 0, 1.5, LABELS | {"name": f"name {number}"},
                            {"bytes_sent": number, "bytes_received": number},
                        )
                    )
                    for key, number in values.items()
                }
            )  # fmt: skip
        for partition in range(4):
            await rows.ledger(partition, rounds, read=1, applied=1)

    writing = asyncio.create_task(write())
    seen: dict[str, int] = {}
    moments = set()
    ended = False
    while not ended:
        ended = writing.done()
        receipts = [f"{partition}-{rounds}-0" for partition in range(4)] if ended else []
        text = (await exporter.scrape(*receipts)).text
        shown = [
            re.findall(rf'^{name}{{client_id="([^"]+)".*name="name (\d+)".*}} (\S+)$', text, re.M)
            for name in ("tobogganing_client_bytes_sent", "tobogganing_client_bytes_received")
        ]
        assert shown[0] == shown[1]
        values = {id: int(name) for id, name, value in shown[0] if int(name) == float(value)}
        assert len(values) == len(shown[0]), (
            "two series of one entity, or a name with another value"
        )
        assert all(values[id] >= number for id, number in seen.items())
        seen = values
        moments.add(text)
    await writing
    assert len(seen) == len(keys)
    assert set(seen.values()) == {rounds - 1, rounds - 2}
    assert len(moments) > 3


async def test_a_client_that_does_not_read_is_cut_off_without_affecting_others(
    rows: RowWriter, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    labels = LABELS | {"name": "a name " * 36}
    row = encode_row(EntityRow(ROW_VERSION, 0, 0, 0, 0, 1.5, labels, {"bytes_sent": 1}))
    await rows.send_all({f"client:c-{n}": row for n in range(50_000)})
    async with Service("exporter", kafka_settings, tmp_path, SEND_WITHIN_SECONDS="1") as exporter:
        await exporter.wait_until_ready()
        with socket.create_connection(("127.0.0.1", exporter.port)) as idler:
            token = exporter.authorized["authorization"].encode()
            idler.sendall(
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: " + token + b"\r\n\r\n"
            )
            name = "tobogganing_exporter_scrapes_cut_off_total"
            async with asyncio.timeout(20):
                while await own_metric(exporter, name) == 0:
                    response = await exporter.scrape()
                    assert len(samples(response.text, "tobogganing_client_bytes_sent")) == 50_000
                    await pause(0.3)
            text = b"".join(iter(lambda: idler.recv(1 << 20), b""))
        assert text.startswith(b"HTTP/1.1 200")
        assert len(text) < len(response.content)


async def test_shards_divide_the_partitions(
    rows: RowWriter, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    keys = [f"client:c-{n}" for n in range(40)]
    for key in keys:
        await rows.row(key, 3, labels=LABELS)
    for partition in range(4):
        await rows.ledger(partition, 3, read=1, applied=1)
    found: list[str] = []
    for number in (1, 2):
        shard = f"{number}/2"
        async with Service("exporter", kafka_settings, tmp_path, EXPORTER_SHARD=shard) as exporter:
            await exporter.wait_until_ready()
            own = [partition for partition in range(4) if partition % 2 == number - 1]
            for partition in range(4):
                status = 200 if partition in own else 421
                assert (await exporter.scrape(f"{partition}-3-0")).status_code == status
            text = (await exporter.scrape(*(f"{partition}-3-0" for partition in own))).text
            shown = re.findall(r'^tobogganing_client_last_check\S+client_id="([^"]+)"', text, re.M)
            assert {rows.partition(f"client:{id}") for id in shown} == set(own)
            found += shown
            for name in ("tobogganing_pipeline_read_total", "tobogganing_pipeline_lag_records"):
                lines = samples(text, name)
                assert re.findall(r'partition="(\d)"', "".join(lines)) == [str(p) for p in own]
            assert ("tobogganing_manager_clients_total" in text) == (number == 1)
            assert ("tobogganing_manager_clusters_total" in text) == (number == 1)
            metrics = (await exporter.http.get("/-/metrics", headers=exporter.authorized)).text
            assert 'topic="' + kafka_settings.kafka_topic_prefix + "registry" in metrics
    assert sorted(f"client:{id}" for id in found) == sorted(keys)


async def test_a_shard_without_partitions_is_rejected(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    exporter = Service("exporter", kafka_settings, tmp_path, EXPORTER_SHARD="5/5")
    await exporter.start()
    assert await exporter.ended() == 2
    assert "EXPORTER_SHARD=5/5 has no partition: there are 4" in exporter.log()


async def test_missing_settings_are_named(tmp_path: Path) -> None:
    settings = KafkaSettings(kafka_bootstrap_servers="")
    extra = {"METRICS_TOKEN": "", "KAFKA_PARTITIONS": "many"}
    exporter = Service("exporter", settings, tmp_path, **extra)
    await exporter.start()
    assert await exporter.ended() == 2
    log = exporter.log()
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in log
    assert "METRICS_TOKEN (or METRICS_TOKEN_FILE) is not set" in log
    assert "KAFKA_PARTITIONS='many' is not valid" in log
