"""Tokens and signing keys on a real Kafka: all gateways know the changes of one."""

import asyncio
import contextlib
import shutil
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contract.audit import AuditRecord, ChangeOutcome, decode_audit
from contract.registry import SIGNING_KEY, decode_record
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.gateways import ADMIN, bearer, gateway, register
from tests.integration.processes import Service
from tests.integration.test_identity import SOON, registry_log
from tests.waiting import eventually, pause

KEYS = "/api/v1/auth/keys"
PATIENCE = 10.0


@pytest.fixture
async def pair(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[list[Service]]:
    """Two gateways with separate folders, which are not synchronised."""
    async with contextlib.AsyncExitStack() as stack:
        services = []
        for name in ("a", "b"):
            shutil.copytree(signing_keys, tmp_path / name)
            service = gateway(kafka_settings, tmp_path, str(tmp_path / name))
            services.append(await stack.enter_async_context(service))
        for service in services:
            await service.wait_until_ready()
        yield services


async def headend(service: Service, id: str) -> str:
    """Register a headend in a cluster of its own; return its API key."""
    place = {"region": "eu", "datacenter": "d"}
    await register(service, "clusters", name=id, cluster_id=f"k-{id}", **place)
    answer = await register(service, "headends", name=id, headend_id=id, cluster_id=f"k-{id}")
    return str(answer.json()["api_key"])


async def token(service: Service, id: str, api_key: str) -> str:
    body = {"node_id": id, "node_type": "headend", "api_key": api_key}
    answer = await service.http.post("/api/v1/auth/token", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def submit(service: Service, id: str, text: str) -> int:
    body = {"metrics": {"cpu_usage": 1.5}}
    path = f"/api/v1/headends/{id}/metrics"
    return (await service.http.post(path, json=body, headers=bearer(text))).status_code


async def revoke(service: Service, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await service.http.post("/api/v1/auth/revoke", json=body, headers=headers)


async def rotate(service: Service) -> httpx.Response:
    return await service.http.post(f"{KEYS}/rotate", headers=ADMIN)


async def listed(service: Service) -> list[dict[str, Any]]:
    answer = await service.http.get(KEYS, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    keys: list[dict[str, Any]] = answer.json()["keys"]
    return keys


def key_files(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.pem"))


def kid_of(text: str) -> str:
    return str(jwt.get_unverified_header(text)["kid"])


def jti_of(text: str) -> str:
    return str(jwt.decode(text, options={"verify_signature": False})["jti"])


async def until_refused(services: list[Service], id: str, text: str) -> float:
    """Submit until no gateway accepts the token; return the time it took."""
    began = time.monotonic()
    for service in services:
        while (status := await submit(service, id, text)) != 401:
            assert status == 200
            assert time.monotonic() - began < PATIENCE, "the token is still accepted"
            await pause(0.02)
    return time.monotonic() - began


async def until_signed_with(service: Service, id: str, api_key: str, kid: str) -> str:
    """Request tokens until one is signed with this key; return it."""
    text = ""

    async def is_so() -> bool:
        nonlocal text
        text = await token(service, id, api_key)
        return kid_of(text) == kid

    await eventually(is_so)
    return text


def put_key(folder: str | Path, name: str) -> Path:
    """Add a key to the folder atomically, as docs/operations.md describes."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    part = Path(folder) / f"{name}.part"
    part.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return part.rename(Path(folder) / f"{name}.pem")


async def test_a_new_key_is_valid_on_every_gateway_and_the_old_one_until_it_expires(
    three: list[Service], signing_keys: str
) -> None:
    api_key = await headend(three[0], "h")
    old = [await token(service, "h", api_key) for service in three]
    assert len({kid_of(text) for text in old}) == 1
    for service in three:
        kid = (await rotate(service)).json()["kid"]
        # The gateway that responded signs with the new key at once, and all accept it at once.
        new = await token(service, "h", api_key)
        assert kid_of(new) == kid
        for other in three:
            assert await submit(other, "h", new) == 200
            await until_signed_with(other, "h", api_key, kid)
            shown = (await other.http.get("/api/v1/auth/public-key")).json()
            assert shown["kid"] == kid
            jwt.decode(new, shown["public_key"], ["RS256"], audience="tobogganing-manager")
            for text in old:
                assert await submit(other, "h", text) == 200
        old.append(new)
    for service in three:
        jwks = (await service.http.get("/.well-known/jwks.json")).json()["keys"]
        assert [key["kid"] for key in jwks] == list(dict.fromkeys(kid_of(text) for text in old))
        keys = await listed(service)
        assert [key["signing"] for key in keys] == [False, False, False, True]
        assert [key["valid_until"] is None for key in keys] == [False, False, False, True]
    modes = {stat.S_IMODE(file.stat().st_mode) for file in key_files(signing_keys)}
    assert modes == {0o600}


async def test_no_private_key_is_in_kafka(
    three: list[Service], kafka_settings: KafkaSettings
) -> None:
    await rotate(three[0])
    values = [record.value for record in await registry_log(kafka_settings)]
    assert any(b"BEGIN PUBLIC KEY" in value for value in values)
    assert not any(b"PRIVATE" in value for value in values)
    assert not any("PRIVATE" in service.log() for service in three)


async def test_an_expired_key_is_not_published_again_from_its_file(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """With a lifetime of three seconds, the test can wait for the expiry."""
    async with gateway(
        kafka_settings, tmp_path, signing_keys, TOKEN_EXPIRY_HOURS=str(3 / 3600)
    ) as service:
        await service.wait_until_ready()
        api_key = await headend(service, "h")
        old = await token(service, "h", api_key)
        kid = (await rotate(service)).json()["kid"]

        async def is_over() -> bool:
            return len(await listed(service)) == 1

        await eventually(is_over)
        assert await submit(service, "h", old) == 401
        await service.end()
        await service.start()
        await service.wait_until_ready()
        assert len(key_files(signing_keys)) == 2
        assert [key["kid"] for key in await listed(service)] == [kid]
        assert kid_of(await token(service, "h", api_key)) == kid
        await rotate(service)
        assert len(key_files(signing_keys)) == 2, "the expired key is deleted"


async def test_revocations_take_effect_on_every_gateway_within_a_second(
    three: list[Service],
) -> None:
    for number, service in enumerate(three):
        id = f"h-{number}"
        api_key = await headend(service, id)
        others = [each for each in three if each is not service]
        lost, kept = [await token(others[0], id, api_key) for _ in range(2)]
        for each in three:  # so that every gateway caches it
            assert await submit(each, id, lost) == 200
        assert (await revoke(service, bearer(kept), jti=jti_of(lost))).status_code == 200
        assert await until_refused(three, id, lost) < SOON
        assert [await submit(each, id, kept) for each in three] == [200] * 3

        node = {"node_id": id, "node_type": "headend"}
        assert (await revoke(others[1], bearer(api_key), **node)).status_code == 200
        assert await until_refused(three, id, kept) < SOON
        fresh = await token(service, id, api_key)
        assert [await submit(each, id, fresh) for each in three] == [200] * 3


async def test_a_removed_key_is_refused_within_a_second_and_forever(
    three: list[Service], signing_keys: str
) -> None:
    api_key = await headend(three[0], "h")
    stolen = await token(three[0], "h", api_key)
    assert [await submit(each, "h", stolen) for each in three] == [200] * 3
    path = f"{KEYS}/{kid_of(stolen)}"
    assert (await three[1].http.delete(path, headers=ADMIN)).status_code == 409
    kid = (await rotate(three[1])).json()["kid"]
    assert (await three[2].http.delete(path, headers=ADMIN)).status_code == 200
    assert await until_refused(three, "h", stolen) < SOON
    await three[0].end()
    await three[0].start()
    await three[0].wait_until_ready()
    assert len(key_files(signing_keys)) == 2, "its file still exists"
    for service in three:
        assert [key["kid"] for key in await listed(service)] == [kid]
        assert await submit(service, "h", stolen) == 401
        assert kid_of(await token(service, "h", api_key)) == kid


async def test_tokens_and_keys_survive_a_restart_of_all_gateways(three: list[Service]) -> None:
    api_key = await headend(three[0], "h")
    revoked, old = [await token(three[0], "h", api_key) for _ in range(2)]
    await revoke(three[0], ADMIN, jti=jti_of(revoked))
    await rotate(three[1])
    new = await token(three[1], "h", api_key)
    before = await listed(three[2])
    for service in three:
        await service.end()
    for service in three:
        await service.start()
    for service in three:
        await service.wait_until_ready()
        assert await listed(service) == before
        statuses = [await submit(service, "h", text) for text in (revoked, old, new)]
        assert statuses == [401, 200, 200]


async def test_concurrent_rotations_agree(three: list[Service]) -> None:
    api_key = await headend(three[0], "h")
    before = await listed(three[0])
    answers = await asyncio.gather(*(rotate(service) for service in three))
    answers += await asyncio.gather(*(rotate(service) for service in three))
    assert {answer.status_code for answer in answers} <= {200, 409}
    kids = {answer.json()["kid"] for answer in answers if answer.status_code == 200}
    keys = await listed(three[0])
    (signing,) = (key["kid"] for key in keys if key["signing"])
    assert signing in kids
    # Every returned key was published.
    assert kids <= {key["kid"] for key in keys} - {before[0]["kid"]}
    for service in three:
        await until_signed_with(service, "h", api_key, signing)
        assert [key["kid"] for key in await listed(service) if key["signing"]] == [signing]


async def test_a_manually_added_key_is_found_by_all_gateways(
    three: list[Service], signing_keys: str, kafka_settings: KafkaSettings
) -> None:
    api_key = await headend(three[0], "h")
    old = await token(three[0], "h", api_key)
    file = put_key(signing_keys, "9000")

    async def is_found() -> bool:
        return bool((await listed(three[0]))[-1]["name"] == "9000")

    await eventually(is_found)
    kid = (await listed(three[0]))[-1]["kid"]
    for service in three:
        new = await until_signed_with(service, "h", api_key, kid)
        assert [await submit(each, "h", new) for each in three] == [200] * 3
        assert await submit(service, "h", old) == 200
    # Several gateways may have published it; a superseded record is repaired with an equal copy.
    log = [record for record in await registry_log(kafka_settings) if kid in str(record.key)]
    said = [decode_record(record.value) for record in log]
    assert {record.name for record in said} == {"9000"}
    assert len({record.attributes["public_key"] for record in said}) == 1
    assert file.exists()
    # A command continues from there.
    answer = await rotate(three[1])
    assert (await listed(three[1]))[-1]["name"] == "9000-1"
    await until_signed_with(three[2], "h", api_key, answer.json()["kid"])


async def test_files_that_are_not_keys_have_no_effect(
    three: list[Service], signing_keys: str
) -> None:
    api_key = await headend(three[0], "h")
    kid = kid_of(await token(three[0], "h", api_key))
    bad = Path(signing_keys) / "9999.pem"
    bad.write_text("-----BEGIN PRIVATE KEY-----\nrubbish\n")

    async def is_seen() -> bool:
        return all("signing key ignored" in service.log() for service in three)

    await eventually(is_seen)
    for service in three:
        await service.wait_until_ready()
        text = await token(service, "h", api_key)
        assert kid_of(text) == kid
        assert await submit(service, "h", text) == 200


async def test_a_read_only_key_folder_is_reported(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """Even root cannot write the new key, because the last possible file name is taken."""
    folder = tmp_path / "full"
    folder.mkdir()
    put_key(folder, "z" * 250)
    async with gateway(kafka_settings, tmp_path, str(folder)) as service:
        await service.wait_until_ready()
        answer = await rotate(service)
        assert answer.status_code == 409
        assert "add a key yourself" in answer.json()["error"]
        api_key = await headend(service, "h")
        assert await submit(service, "h", await token(service, "h", api_key)) == 200
        assert len(list(folder.iterdir())) == 1


async def test_gateways_with_separate_folders_sign_until_their_keys_expire(
    pair: list[Service], tmp_path: Path
) -> None:
    a, b = pair
    api_key = await headend(a, "h")
    kid = (await rotate(a)).json()["kid"]
    behind = await token(b, "h", api_key)
    assert kid_of(behind) != kid
    assert [await submit(each, "h", behind) for each in pair] == [200, 200]
    new = await token(a, "h", api_key)
    assert [await submit(each, "h", new) for each in pair] == [200, 200]
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    await until_signed_with(b, "h", api_key, kid)


async def test_without_a_key_a_gateway_does_not_start(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with gateway(kafka_settings, tmp_path, str(tmp_path / "none")) as service:
        assert await service.ended() == 2
        assert "SIGNING_KEYS_DIR" in service.log()
        assert "openssl genpkey" in service.log()


async def test_changes_of_keys_and_tokens_are_audited(
    three: list[Service], kafka_settings: KafkaSettings
) -> None:
    api_key = await headend(three[0], "h")
    text = await token(three[0], "h", api_key)
    await three[0].http.delete(f"{KEYS}/{kid_of(text)}", headers=ADMIN)
    await rotate(three[0])
    await revoke(three[1], bearer(text), jti=jti_of(text))
    await revoke(three[1], ADMIN, node_id="h", node_type="headend")
    await three[2].http.delete(f"{KEYS}/{kid_of(text)}", headers=ADMIN)
    records: list[AuditRecord] = []

    def take(_: int, batch: Any) -> None:
        records.extend(decode_audit(record.value) for record in batch)

    async with TopicReader(kafka_settings, topics_from(kafka_settings).audit.name, [0]) as reader:
        await reader.read_to_end(take, {})
    key, node = f"{SIGNING_KEY}:{kid_of(text)}", "headend:h"
    assert [(each.actor, each.action, each.target, each.outcome) for each in records[2:]] == [
        ("admin", "rotate-signing-key", SIGNING_KEY, ChangeOutcome.ALLOWED),
        (node, "revoke-token", f"revocation:{jti_of(text)}", ChangeOutcome.ALLOWED),
        ("admin", "revoke-tokens", node, ChangeOutcome.ALLOWED),
        ("admin", "remove-signing-key", key, ChangeOutcome.ALLOWED),
    ]
    for service in three:
        assert text not in service.log()
