"""The API of check-ins on a real Kafka, with rows, registrations, and letters as services write."""

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from contract.audit import AUDIT_VERSION, AuditRecord, ChangeOutcome, encode_audit
from contract.dead_letter import DeadLetterSource, encode_source
from contract.frame import Submission, encode_submission
from contract.registry import CLUSTER, RegistryRecord, encode_record
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from
from tests.integration.processes import METRICS_TOKEN, POLL, RowWriter, Service, row_writer

API = "/api/v1/checkins"
HOSTILE = '=HYPERLINK("http://evil.example") <b>'


class World:
    """Writes to the topics that the exporter reads."""

    def __init__(
        self, settings: KafkaSettings, rows: RowWriter, producer: AIOKafkaProducer
    ) -> None:
        self._topics = topics_from(settings)
        self._producer = producer
        self.rows = rows
        self._revision = 0

    async def register(self, kind: str, id: str, name: str = "", **attributes: str) -> None:
        self._revision += 1
        record = RegistryRecord(1, kind, id, self._revision, name or id, attributes)
        topic = self._topics.registry.name
        await self._producer.send_and_wait(topic, encode_record(record), record.key, partition=0)

    async def report(self, kind: str, id: str, age: float, **labels: str) -> None:
        self._revision += 1
        values: dict[str, Any] = {"last_check_in": time.time() - age, "labels": labels}
        await self.rows.row(f"{kind}:{id}", self._revision, **values)

    async def audit(self, action: str, target: str) -> None:
        record = AuditRecord(
            AUDIT_VERSION, str(time.time()), "admin", action, target, "192.0.2.7",
            ChangeOutcome.ALLOWED,
        )  # fmt: skip
        await self._producer.send_and_wait(
            self._topics.audit.name, encode_audit(record), partition=0
        )

    async def dead_letter(self, kind: str, id: str, reason: str) -> None:
        source = DeadLetterSource(reason, 0, 0, int(time.time() * 1000))
        await self._producer.send_and_wait(
            self._topics.dead_letter.name,
            encode_submission(Submission(kind, id, 1)),
            partition=self.rows.partition(f"{kind}:{id}"),
            headers=encode_source(source),
        )


@pytest.fixture
async def world(kafka_settings: KafkaSettings) -> AsyncIterator[World]:
    async with row_writer(kafka_settings) as rows:
        producer = AIOKafkaProducer(**client_options(kafka_settings))
        await producer.start()
        try:
            yield World(kafka_settings, rows, producer)
        finally:
            await producer.stop()


@pytest.fixture
async def exporter(
    kafka_settings: KafkaSettings, tmp_path: Path, world: World
) -> AsyncIterator[Service]:
    extra = {"AUTH_FAILURES_PER_MINUTE": "3"}
    async with Service("exporter", kafka_settings, tmp_path, **extra) as service:
        await service.wait_until_ready()
        yield service


async def get(exporter: Service, path: str = "", **parameters: str) -> Any:
    response = await exporter.http.get(API + path, params=parameters, headers=exporter.authorized)
    assert response.status_code == 200, response.text
    return response.json()


async def until_shown(exporter: Service, count: int, **parameters: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            document = await get(exporter, **parameters)
            if document["matches"] == count:
                return document
            await asyncio.sleep(POLL)


async def until_states(exporter: Service, *states: str, **parameters: str) -> Any:
    """Wait for a current list with these states: rows and registrations arrive independently."""
    document: Any = None
    try:
        async with asyncio.timeout(20):
            while True:
                document = await get(exporter, **parameters)
                found = tuple(each["state"] for each in document["items"])
                if found == states and document["is_current"]:
                    return document
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"it still says {document}") from None


async def test_lists_have_states_groups_and_totals(exporter: Service, world: World) -> None:
    await world.register(CLUSTER, "fra", "Frankfurt", region="eu", datacenter="d1")
    for number, age in enumerate((5, 200, 4000)):
        id = f"h-{number}"
        place = {"region": "eu", "datacenter": "d1"}
        await world.register("headend", id, cluster_id="fra", **place)
        await world.report("headend", id, age, name=id, **place)
    for number, age in enumerate((10, 400, 1000)):
        labels = {"name": f"Ann {number}", "type": "native", "headless": "true"}
        await world.register("client", f"c-{number}", type="native")
        await world.report("client", f"c-{number}", age, **labels)
    await world.register("client", "c-new", "New", type="mobile")
    await until_states(exporter, "offline", "late", "online", kind="headends")
    document = await until_states(exporter, "offline", "late", "never", "online")
    totals = {name: document[name] for name in document if name.endswith(("_clients", "_headends"))}
    assert totals == {
        "total_clients": 4,
        "online_clients": 1,
        "headless_clients": 3,
        "gui_clients": 1,
        "total_headends": 3,
        "online_headends": 1,
    }
    silent = await get(exporter, state="silent", kind="headends", group_by="region")
    assert [each["id"] for each in silent["items"]] == ["h-2", "h-1"]
    (group,) = silent["groups"]
    assert (group["value"], group["total"], group["offline"], group["late"]) == ("eu", 3, 1, 1)
    (cluster,) = (await until_states(exporter, "online", kind="clusters"))["items"]
    assert cluster["name"] == "Frankfurt"
    found = await get(exporter, q="ann 1")
    assert [each["id"] for each in found["items"]] == ["c-1"]
    paged = await get(exporter, sort="name", limit="3")
    rest = await get(exporter, sort="name", limit="3", cursor=paged["next"])
    names = [each["name"] for each in paged["items"] + rest["items"]]
    assert names == ["Ann 0", "Ann 1", "Ann 2", "New"]
    assert rest["next"] is None
    refused = await exporter.http.get(f"{API}?sort=size", headers=exporter.authorized)
    assert refused.status_code == 400
    assert refused.json()["field"] == "sort"


async def test_a_spreadsheet_gets_text_and_no_formulas(exporter: Service, world: World) -> None:
    await world.report("client", "c-1", 10, name=HOSTILE, type="native")
    await until_shown(exporter, 1)
    response = await exporter.http.get(
        f"{API}?format=csv&state=online", headers=exporter.authorized
    )
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(response.text))
    assert row["name"] == "'" + HOSTILE
    assert (row["id"], row["state"], row["registered"]) == ("c-1", "online", "false")


async def test_why_names_what_happened(exporter: Service, world: World) -> None:
    async def verdict(id: str) -> Any:
        return await get(exporter, f"/clients/{id}/why")

    assert (await verdict("nobody"))["verdict"] == "never_registered"
    await world.register("client", "c-1", type="native")
    await until_shown(exporter, 1)
    assert (await verdict("c-1"))["verdict"] == "never_reported"
    await world.report("client", "c-1", 4000, name="n", type="native")
    await until_shown(exporter, 1, state="offline")
    assert (await verdict("c-1"))["verdict"] == "silent"
    await world.audit("rotate-key", "client:c-1")
    why = await verdict("c-1")
    assert why["verdict"] == "credential_changed"
    assert [each["what"] for each in why["evidence"]] == ["last_check_in", "rotate-key"]
    assert "192.0.2.7" not in str(why)
    await world.dead_letter("client", "c-1", "the row would be too large")
    await world.dead_letter("client", "c-10", "another one")
    why = await verdict("c-1")
    assert why["verdict"] == "dead_lettered"
    assert "too large" in str(why["evidence"])
    assert "another one" not in str(why)
    await world.audit("remove", "client:c-2")
    assert (await verdict("c-2"))["verdict"] == "removed"


async def test_an_entity_has_its_labels_values_and_lines(exporter: Service, world: World) -> None:
    labels = {"name": 'Ann "Ü" \\', "type": "native", "headless": "true"}
    now = time.time()
    await world.rows.row(
        "client:c-1", 7, labels=labels, metrics={"bytes_sent": 12}, last_check_in=now - 1.25
    )
    await until_shown(exporter, 1)
    document = await get(exporter, "/clients/c-1")
    assert document["labels"] == {"client_id": "c-1"} | labels
    values = {each["field"]: each["value"] for each in document["values"]}
    assert values == {"bytes_sent": 12, "last_check_in": now - 1.25}
    assert 'rate(tobogganing_client_bytes_sent{client_id="c-1"}[5m])' in document["promql"]
    missing = await exporter.http.get(f"{API}/clients/x", headers=exporter.authorized)
    assert missing.status_code == 404


async def test_only_the_token_opens_it(exporter: Service, world: World) -> None:
    paths = (API, f"{API}/clients/c", f"{API}/clients/c/why", "/checkins", "/checkins/clients/c")
    for path in paths:
        response = await exporter.http.get(path)
        assert response.status_code in (401, 429), path
        assert (
            "Unauthorized" in response.text
            or "sign-in" in response.text
            or "Too many" in response.text
        )
    policy = (await exporter.http.get("/checkins")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_sessions_replace_the_token(exporter: Service, world: World) -> None:
    form = {"token": METRICS_TOKEN, "next": "/checkins?kind=headends"}
    http = exporter.http
    elsewhere = {"sec-fetch-site": "cross-site"}
    assert (await http.post("/checkins/sign-in", data=form, headers=elsewhere)).status_code == 403
    response = await http.post("/checkins/sign-in", data=form)
    assert response.status_code == 303
    assert response.headers["location"] == form["next"]
    assert METRICS_TOKEN not in str(response.headers)
    assert (await http.get(API)).status_code == 200
    page = await http.get("/checkins")
    assert page.status_code == 200
    tag = {"if-none-match": page.headers["etag"]}
    assert (await http.get("/checkins", headers=tag)).status_code in (200, 304)
    assert (await http.get("/metrics")).status_code == 401, "a session opens no other path"
    assert (await http.post("/checkins/sign-out")).status_code == 303
    assert (await http.get(API)).status_code == 401


async def test_failed_sign_ins_are_limited(exporter: Service, world: World) -> None:
    async def attempt(token: str) -> httpx.Response:
        return await exporter.http.post("/checkins/sign-in", data={"token": token})

    statuses = [(await attempt("wrong-token-of-the-tests")).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert (await attempt(METRICS_TOKEN)).status_code == 303, "a right token is always accepted"
    large = await exporter.http.post("/checkins/sign-in", content=b"token=" + b"x" * 10_000)
    assert large.status_code == 413
