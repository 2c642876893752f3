"""A credential that becomes invalid while a body arrives is refused: real gateways, raw
connections.

Each test sends the head of a request and a part of its body, changes what the credential depends
on, and sends the rest.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from service.config.settings import KafkaSettings
from tests.integration.gateways import (
    ADMIN,
    bearer,
    frames_of,
    gateway,
    register,
    registered,
    rotate,
    submit,
)
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.shared import shared_services
from tests.integration.test_tokens import headend, jti_of, revoke, token
from tests.integration.test_tokens import submit as submit_by_token
from tests.waiting import eventually

pytestmark = shared_services("slow_bodies")

PATIENCE = 20.0
ACCEPTED = re.compile(
    r'^tobogganing_manager_auth_attempts_total\{(.*result="success".*)\} (\S+)$', re.M
)
OLD, NEW = 4711, 4712
"""Metric values that identify a single submission of a test."""


class SlowRequest:
    """A POST of which only the first half of the body is sent at once; a context manager."""

    def __init__(
        self,
        service: Service,
        path: str,
        headers: dict[str, str],
        body: bytes,
        type: str = "application/json",
        coding: str | None = None,
        chunked: bool = False,
    ) -> None:
        self._service, self._path, self._body, self._chunked = service, path, body, chunked
        self._headers = {"host": "gateway", "content-type": type, "connection": "close", **headers}
        if coding is not None:
            self._headers["content-encoding"] = coding
        if chunked:
            self._headers["transfer-encoding"] = "chunked"
        else:
            self._headers["content-length"] = str(len(body))

    async def __aenter__(self) -> "SlowRequest":
        checked = await self._checked()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._service.port)
        lines = [f"POST {self._path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        self._half = len(self._body) // 2
        self._write(self._body[: self._half])

        async def is_checked() -> bool:
            return await self._checked() > checked

        await eventually(is_checked)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._writer.close()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Send the rest of the body; return the status and the JSON of the response."""
        self._write(self._body[self._half :])
        if self._chunked:
            self._writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            response = await self._reader.read()
        head, _, content = response.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    def _write(self, piece: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    async def _checked(self) -> float:
        """Return the number of credentials that the gateway has accepted, except those of
        scrapes."""
        scrape = (await self._service.scrape()).text
        found = ACCEPTED.findall(scrape)
        return sum(float(value) for labels, value in found if "metrics_token" not in labels)


@pytest.fixture(scope="module")
def admin_file(shared_folder: Path) -> Path:
    """The file with the ADMIN_TOKEN of the gateways."""
    file = shared_folder / "admin"
    file.write_text(ADMIN_TOKEN)
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    shared_settings: KafkaSettings, shared_folder: Path, shared_signing_keys: str, admin_file: Path
) -> AsyncIterator[list[Service]]:
    """Two gateways on one Kafka, which read their ADMIN_TOKEN from a file."""
    extra = {"ADMIN_TOKEN": "", "ADMIN_TOKEN_FILE": str(admin_file)}
    async with contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                gateway(shared_settings, shared_folder, shared_signing_keys, **extra)
            )
            for _ in range(2)
        ]
        for service in services:
            await service.wait_until_ready()
        yield services


def one(value: int) -> bytes:
    return json.dumps({"metrics": {"bytes_sent": value}}).encode()


def backlog(value: int) -> bytes:
    samples = [{"metrics": {"bytes_sent": value}, "timestamp": 1_700_000_000.5}]
    return json.dumps({"samples": samples}).encode()


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"body": one(OLD)},
    "chunked": {"body": one(OLD), "chunked": True},
    "gzip": {"body": gzip.compress(one(OLD)), "coding": "gzip"},
    "backlog": {"body": backlog(OLD)},
}
"""Submissions that do not use the fast path."""


def item(id: str, value: int) -> dict[str, Any]:
    return {"client_id": id, "metrics": {"bytes_sent": value}}


def batch_forms(id: str) -> dict[str, dict[str, Any]]:
    items = [item(id, OLD)]
    return {
        "array": {"body": json.dumps(items).encode()},
        "lines": {"body": json.dumps(items[0]).encode() + b"\n", "type": "application/x-ndjson"},
        "gzip": {"body": gzip.compress(json.dumps(items).encode()), "coding": "gzip"},
    }


async def until_refused(service: Service, id: str, headers: dict[str, str]) -> None:
    async def is_refused() -> bool:
        return (await submit(service, id, headers, 1)).status_code == 401

    await eventually(is_refused)


async def until_known(service: Service, id: str, headers: dict[str, str], value: int) -> None:
    async def is_known() -> bool:
        return (await submit(service, id, headers, value)).status_code == 200

    await eventually(is_known)


async def until_token_refused(service: Service, id: str, text: str) -> None:
    async def is_refused() -> bool:
        return await submit_by_token(service, id, text) == 401

    await eventually(is_refused)


async def submitted(settings: KafkaSettings, prefix: str) -> set[float]:
    """Return every value in any submission of entities whose ids start so."""
    frames = (await frames_of(settings)).values()
    return {
        value
        for frame, _ in frames
        for each in frame.submissions
        if each.id.startswith(prefix)
        for value in each.metrics.values()
    }


def metrics_path(id: str, collection: str = "clients") -> str:
    return f"/api/v1/{collection}/{id}/metrics"


async def test_a_key_rotated_while_the_body_arrives_is_refused(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    for form, there in itertools.product(FORMS, pair):
        id = f"rotated-{form}-{there.port}"
        old = await registered(pair[0], id)
        async with SlowRequest(pair[0], metrics_path(id), old, **FORMS[form]) as request:
            assert (await rotate(there, id, old)).status_code == 200
            await until_refused(pair[0], id, old)
            assert (await request.answer())[0] == 401
    assert OLD not in await submitted(shared_settings, "rotated")


async def test_an_old_key_is_accepted_during_its_overlap(pair: list[Service]) -> None:
    """A check against the current record must not refuse what that record still permits."""
    for form in FORMS:
        id = f"overlap-{form}"
        old = await registered(pair[0], id)
        async with SlowRequest(pair[0], metrics_path(id), old, **FORMS[form]) as request:
            answer = await rotate(pair[1], id, old, overlap_seconds=600)
            await until_known(pair[0], id, bearer(answer.json()["new_api_key"]), 1)
            assert (await request.answer())[0] == 200


async def test_a_key_whose_overlap_ends_while_the_body_arrives_is_refused(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    old = await registered(pair[0], "ending")
    assert (await rotate(pair[0], "ending", old, overlap_seconds=1)).status_code == 200
    async with SlowRequest(pair[0], metrics_path("ending"), old, one(OLD)) as request:
        await until_refused(pair[0], "ending", old)
        assert (await request.answer())[0] == 401
    assert OLD not in await submitted(shared_settings, "ending")


async def test_the_key_of_a_removed_client_never_submits_for_the_next_registration(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    for form, there in itertools.product(FORMS, pair):
        id = f"removed-{form}-{there.port}"
        old = await registered(pair[0], id)
        async with SlowRequest(pair[0], metrics_path(id), old, **FORMS[form]) as request:
            answer = await there.http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
            assert answer.status_code == 200
            new = await registered(there, id)
            await until_known(pair[0], id, new, NEW)
            assert (await request.answer())[0] == 401
    values = await submitted(shared_settings, "removed")
    assert NEW in values
    assert OLD not in values


async def test_a_body_completed_before_a_removal_belongs_to_the_old_registration(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    """Whatever the response of a gateway that has read the removal or has not."""
    for number in range(10):
        id = f"completed-{number}"
        old = await registered(pair[0], id)
        async with SlowRequest(pair[0], metrics_path(id), old, one(OLD)) as request:
            await pair[1].http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
            new = await registered(pair[1], id)
            assert (await request.answer())[0] in (200, 401)
        assert (await submit(pair[1], id, new, NEW)).status_code == 200
    incarnations: dict[float, dict[str, int]] = {OLD: {}, NEW: {}}
    for frame, _ in (await frames_of(shared_settings)).values():
        for each in frame.submissions:
            if each.id.startswith("completed") and not each.removed:
                incarnations[each.metrics["bytes_sent"]][each.id] = each.incarnation
    assert all(old < incarnations[NEW][id] for id, old in incarnations[OLD].items())


async def test_a_relay_removed_or_rotated_while_its_batch_arrives_is_refused(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    await registered(pair[0], "relay")
    for form, change in itertools.product(batch_forms("relay"), ("removed", "rotated")):
        id = f"ey.{form}.{change}"  # it contains dots, like a token
        answer = await register(pair[0], "relays", name="R", relay_id=id, scope="all")
        relay = bearer(answer.json()["api_key"])
        good = json.dumps([item("relay", NEW)]).encode()
        async with SlowRequest(pair[0], "/api/v1/metrics", relay, good) as request:
            assert (await request.answer())[0] == 200
        slow = SlowRequest(pair[0], "/api/v1/metrics", relay, **batch_forms("relay")[form])
        async with slow as request:
            if change == "removed":
                answer = await pair[0].http.delete(f"/api/v1/relays/{id}", headers=ADMIN)
            else:
                answer = await pair[0].http.post(f"/api/v1/relays/{id}/rotate-key", headers=ADMIN)
            assert answer.status_code == 200
            assert (await request.answer())[0] == 401
    assert OLD not in await submitted(shared_settings, "relay")


async def test_a_token_revoked_while_the_body_arrives_is_refused(
    pair: list[Service], shared_settings: KafkaSettings
) -> None:
    for id in ("revoked-by-jti", "revoked-by-node", "revoked-by-key"):
        text = await token(pair[0], id, await headend(pair[0], id))
        body = json.dumps({"metrics": {"cpu_usage": OLD}}).encode()
        path = metrics_path(id, "headends")
        async with SlowRequest(pair[0], path, bearer(text), body) as request:
            if id == "revoked-by-jti":
                answer = await revoke(pair[1], ADMIN, jti=jti_of(text))
            elif id == "revoked-by-node":
                answer = await revoke(pair[1], ADMIN, node_id=id, node_type="headend")
            else:
                answer = await pair[1].http.post(f"/api/v1/headends/{id}/rotate-key", headers=ADMIN)
            assert answer.status_code == 200
            await until_token_refused(pair[0], id, text)
            assert (await request.answer())[0] == 401
    assert OLD not in await submitted(shared_settings, "revoked")


async def test_a_token_that_expires_while_the_body_arrives_is_refused(
    shared_settings: KafkaSettings, shared_folder: Path, shared_signing_keys: str
) -> None:
    extra = {"TOKEN_EXPIRY_HOURS": str(2 / 3600)}
    async with gateway(shared_settings, shared_folder, shared_signing_keys, **extra) as service:
        await service.wait_until_ready()
        text = await token(service, "expiring", await headend(service, "expiring"))
        body = json.dumps({"metrics": {"cpu_usage": OLD}}).encode()
        async with SlowRequest(
            service, metrics_path("expiring", "headends"), bearer(text), body
        ) as request:
            await until_token_refused(service, "expiring", text)
            assert (await request.answer())[0] == 401


async def test_an_admin_token_replaced_while_the_body_arrives_is_refused(
    pair: list[Service], admin_file: Path
) -> None:
    await registered(pair[0], "admin")
    bodies = {
        "/api/v1/clients/register": {"name": "n", "type": "native", "client_id": "unknown"},
        "/api/v1/clients/admin/rotate-key": {"overlap_seconds": 60},
        "/api/v1/auth/revoke": {"node_id": "admin", "node_type": "client"},
    }
    async with contextlib.AsyncExitStack() as stack:
        requests = [
            await stack.enter_async_context(
                SlowRequest(pair[0], path, ADMIN, json.dumps(body).encode())
            )
            for path, body in bodies.items()
        ]
        await asyncio.to_thread(admin_file.write_text, "another-admin-token-of-the-tests")

        async def is_replaced() -> bool:
            return (
                await pair[0].http.get("/api/v1/clients/admin", headers=ADMIN)
            ).status_code == 401

        await eventually(is_replaced)
        answers = [(await request.answer())[0] for request in requests]
    assert answers == [401, 401, 401]
    fresh = bearer("another-admin-token-of-the-tests")
    assert (await pair[0].http.get("/api/v1/clients/unknown", headers=fresh)).status_code == 404
    shown = (await pair[0].http.get("/api/v1/clients/admin", headers=fresh)).json()
    assert "old_keys_valid_until" not in shown

    await asyncio.to_thread(admin_file.write_text, ADMIN_TOKEN)

    async def is_back() -> bool:
        answers = [await each.http.get("/api/v1/clients", headers=ADMIN) for each in pair]
        return {answer.status_code for answer in answers} == {200}

    await eventually(is_back)


async def test_a_key_whose_overlap_ends_does_not_rotate_its_successor(
    pair: list[Service],
) -> None:
    old = await registered(pair[0], "successor")
    answer = await rotate(pair[0], "successor", old, overlap_seconds=1)
    new = bearer(answer.json()["new_api_key"])
    body = json.dumps({"overlap_seconds": 0}).encode()
    async with SlowRequest(pair[0], "/api/v1/clients/successor/rotate-key", old, body) as request:
        await until_refused(pair[0], "successor", old)
        assert (await request.answer())[0] == 401
    assert (await submit(pair[0], "successor", new, 1)).status_code == 200
