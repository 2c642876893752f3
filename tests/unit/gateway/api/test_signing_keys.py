"""Signing keys: publication before first use, rotation with an overlap, no reuse after expiry."""

import asyncio
import base64
import itertools
import math
import stat
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec.structs import replace

from contract.registry import SIGNING_KEY, encode_record
from gateway.auth import key_store
from gateway.auth.key_store import FileKeyStore
from gateway.auth.signing_keys import SigningKeyManager, require_keys
from gateway.produce.producer import RecordMetadata
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.config.settings import SettingsError
from tests.unit.gateway.conftest import Api, InMemoryTopic
from tobogganing.devstack.secrets import provide_signing_keys

ADMIN = {"Authorization": "Bearer admin"}
HOUR = 3600.0


@pytest.fixture(scope="module")
def pool() -> list[Any]:
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(12)]


@pytest.fixture(autouse=True)
def made_before(pool: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, making a key takes longer than these tests wait for a response."""
    keys = itertools.cycle(pool)
    monkeypatch.setattr(key_store, "generate_private_key", lambda **_: next(keys))


def soon() -> float:
    return time.monotonic() + 5


@pytest.fixture
def folder(tmp_path: Path) -> FileKeyStore:
    keys = FileKeyStore(tmp_path / "keys")
    keys.create(after="", now=time.time())
    return keys


def gateway(
    settings: GatewaySettings, topic: InMemoryTopic, folder: FileKeyStore
) -> SigningKeyManager:
    registry = RegistryWriter(settings, topic)
    registry.tailer.caught_up = True
    topic.followers.append(registry)
    topic.deliver(registry)
    return SigningKeyManager(folder, registry, HOUR)


def signing(keys: SigningKeyManager) -> str:
    signer = keys.signing_key()
    assert signer is not None
    return signer[0].name


def write(file: Path, key: Any) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(pem)


def on_an_unknown_curve() -> str:
    """A key on a curve whose name no library knows."""
    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    unknown = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f"), 1)
    text = base64.encodebytes(unknown).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n"


async def test_a_key_is_published_before_it_is_used(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    keys = gateway(settings, registry_topic, folder)
    assert keys.signing_key() is None
    await keys.refresh(soon())
    signer = keys.signing_key()
    assert signer is not None
    assert signer[1] is None
    other = gateway(settings, registry_topic, FileKeyStore(Path("/nowhere")))
    public = other.public_key(signer[0].kid)
    assert public is not None
    assert public.public_numbers() == signer[0].private_key.public_key().public_numbers()
    assert other.signing_key() is None
    assert b"PRIVATE" not in b"".join(record.value for record in registry_topic.records)


async def test_a_key_is_published_as_soon_as_the_registry_was_read(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    """A gateway is not ready before, so it does not wait for the next read of the folder."""
    registry = RegistryWriter(settings, registry_topic)
    registry_topic.followers.append(registry)
    keys = SigningKeyManager(folder, registry, HOUR)
    keys.interval = HOUR
    running = asyncio.create_task(keys.run())
    try:
        await asyncio.sleep(2 * keys.start_interval)
        assert keys.signing_key() is None
        registry.tailer.caught_up = True
        registry_topic.deliver(registry)
        async with asyncio.timeout(5):
            while keys.signing_key() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        running.cancel()


async def test_only_the_last_new_key_by_name_is_published(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    last = folder.create(after="3000", now=time.time())
    assert last > "3000"
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    assert [record.name for record in keys.published()] == [last]
    assert signing(keys) == last


async def test_older_keys_expire_after_a_newer_one_is_published(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    a, b = (gateway(settings, registry_topic, folder) for _ in range(2))
    await a.refresh(soon())
    first = signing(a)
    kid = await b.create(soon())
    await a.refresh(soon())
    assert signing(a) == signing(b) > first
    old, new = a.published()
    assert (old.name, new.id, new.expires_at_ms) == (first, kid, None)
    assert old.expires_at_ms is not None
    assert abs(old.expires_at_ms / 1000 - time.time() - HOUR) < 60
    assert a.public_key(old.id) is not None


async def test_an_expired_key_is_never_published_again(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    first = keys.published()[0]
    await keys.create(soon())
    registry = keys._registry
    old = registry.get(SIGNING_KEY, first.id)
    assert old is not None
    assert await registry.change(old, replace(old, expires_at_ms=1), soon())
    assert keys.public_key(first.id) is None
    await registry._tombstone(old.key)
    assert registry.state.current(old.key) is None
    for _ in range(2):
        await keys.refresh(soon())
    assert registry.state.current(old.key) is None
    assert len(list(folder.folder.glob("*.pem"))) == 2
    await keys.create(soon())
    assert first.name not in [file.stem for file in folder.folder.glob("*.pem")]


async def test_a_gateway_without_the_newer_key_signs_with_the_old_one_until_it_expires(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore, tmp_path: Path
) -> None:
    behind = gateway(settings, registry_topic, folder)
    await behind.refresh(soon())
    other = FileKeyStore(tmp_path / "other")
    other.create(after=folder.load()[-1].name, now=time.time())
    await gateway(settings, registry_topic, other).refresh(soon())
    await behind.refresh(soon())
    signer = behind.signing_key()
    assert signer is not None
    assert signer[1] is not None
    assert [record.expires_at_ms is None for record in behind.published()] == [False, True]


async def test_two_gateways_publish_the_same_key_file_once(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    registry_topic.at_once = False
    a, b = (gateway(settings, registry_topic, folder) for _ in range(2))
    a._keys = b._keys = folder.load()
    first, second = (keys._publish(folder.load()[-1], soon()) for keys in (a, b))
    registry_topic.at_once = True
    await first
    await second
    assert signing(a) == signing(b)


async def test_files_without_a_usable_key_are_ignored(
    settings: GatewaySettings,
    registry_topic: InMemoryTopic,
    folder: FileKeyStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    good = signing(keys)
    place = folder.folder
    (place / "9.pem").write_text("no key")
    (place / "9a.pem").mkdir()
    write(place / "9b.pem", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    write(place / "9c.pem", ec.generate_private_key(ec.SECP256R1()))
    (place / "9c1.pem").write_text(on_an_unknown_curve())
    (place / ".9d.pem").write_bytes((place / f"{good}.pem").read_bytes())
    (place / "9e.txt").write_bytes((place / f"{good}.pem").read_bytes())
    await keys.refresh(soon())
    assert signing(keys) == good
    assert len(keys.published()) == 1


async def test_the_last_keys_stay_in_use_when_all_files_are_deleted(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    good = signing(keys)
    (folder.folder / f"{good}.pem").unlink()
    await keys.refresh(soon())
    assert signing(keys) == good


def test_names_of_new_keys_increase_whatever_the_clock_shows(folder: FileKeyStore) -> None:
    (first,) = (key.name for key in folder.load())
    later = [folder.create(after="9999", now=time.time())]
    for _ in range(3):
        later.append(folder.create(after=later[-1], now=time.time()))
    assert [first, *later] == sorted({first, *later})
    assert [key.name for key in folder.load()] == [first, *later]
    assert folder.create(after=first, now=time.time()) != first
    modes = {stat.S_IMODE(file.stat().st_mode) for file in folder.folder.iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir, Path.touch])
def test_a_gateway_without_a_key_does_not_start(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "keys")
    with pytest.raises(SettingsError, match=r"SIGNING_KEYS_DIR.*openssl genpkey"):
        require_keys(FileKeyStore(tmp_path / "keys"))


async def token(api: Api, id: str = "h-1") -> str:
    record = api.registry.get("headend", id)
    assert record is not None
    return api.jwt_service.issue(record).text


@pytest.fixture
async def headend(api: Api) -> str:
    """A headend's API key."""
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    answer = await api.register("headends", name="h", cluster_id="k-1", headend_id="h-1")
    await api.register("headends", name="h", cluster_id="k-1", headend_id="h-2")
    return str(answer["api_key"])


async def submit(api: Api, credential: str, id: str = "h-1") -> int:
    headers = {"Authorization": f"Bearer {credential}"}
    path = f"/api/v1/headends/{id}/metrics"
    return (await api.http.post(path, headers=headers, json={"metrics": {}})).status_code


async def test_a_key_is_rotated_through_the_api(api: Api, headend: str) -> None:
    before = (await api.http.get("/api/v1/auth/public-key")).json()
    old = await token(api)
    answer = await api.http.post("/api/v1/auth/keys/rotate", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    kid = answer.json()["kid"]
    new = await token(api)
    assert jwt.get_unverified_header(old)["kid"] == before["kid"] != kid
    assert jwt.get_unverified_header(new)["kid"] == kid
    assert (await submit(api, old), await submit(api, new)) == (200, 200)

    shown = (await api.http.get("/api/v1/auth/public-key")).json()
    assert shown["kid"] == kid
    jwt.decode(new, shown["public_key"], ["RS256"], audience="tobogganing-manager")
    jwks = (await api.http.get("/.well-known/jwks.json")).json()["keys"]
    by_kid = {key["kid"]: jwt.PyJWK(key).key for key in jwks}
    for text in (old, new):
        key = by_kid[jwt.get_unverified_header(text)["kid"]]
        jwt.decode(text, key, ["RS256"], audience="tobogganing-manager")
    listed = (await api.http.get("/api/v1/auth/keys", headers=ADMIN)).json()["keys"]
    assert [(key["kid"], key["signing"], key["valid_until"] is None) for key in listed] == [
        (before["kid"], False, False),
        (kid, True, True),
    ]


async def test_tokens_of_a_removed_key_are_invalid(api: Api, headend: str) -> None:
    kid = (await api.http.get("/api/v1/auth/public-key")).json()["kid"]
    stolen = await token(api)
    assert await submit(api, stolen) == 200
    path = f"/api/v1/auth/keys/{kid}"
    answer = await api.http.delete(path, headers=ADMIN)
    assert answer.status_code == 409
    assert "rotate first" in answer.json()["error"]
    await api.http.post("/api/v1/auth/keys/rotate", headers=ADMIN)
    assert (await api.http.delete(path, headers=ADMIN)).status_code == 200
    assert await submit(api, stolen) == 401
    assert await submit(api, await token(api)) == 200
    await api.keys.refresh(soon())
    assert kid not in [record.id for record in api.keys.published()]
    assert (await api.http.delete(path, headers=ADMIN)).status_code == 404


async def test_a_key_that_another_gateway_changes_at_the_same_time_is_removed(api: Api) -> None:
    kid = (await api.http.get("/api/v1/auth/public-key")).json()["kid"]
    await api.http.post("/api/v1/auth/keys/rotate", headers=ADMIN)
    write_down, changes = api.audit.send, 3

    async def another_is_faster(*args: Any, **options: Any) -> RecordMetadata:
        for _ in range(changes):
            record = api.registry.get("signing-key", kid)
            assert record is not None
            assert record.expires_at_ms is not None
            later = replace(
                record, revision=record.revision + 1, expires_at_ms=record.expires_at_ms + 1
            )
            await api.topic.send("registry", encode_record(later), partition=0, key=record.key)
        return await write_down(*args, **options)

    api.audit.send = another_is_faster  # type: ignore[method-assign]
    answer = await api.http.delete(f"/api/v1/auth/keys/{kid}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert kid not in [record.id for record in api.keys.published()]


async def test_a_read_only_folder_is_reported(api: Api) -> None:
    for file in api.key_folder.iterdir():
        file.unlink()
    api.key_folder.rmdir()
    api.key_folder.write_text("a file is not a folder, not even for root")
    answer = await api.http.post("/api/v1/auth/keys/rotate", headers=ADMIN)
    assert answer.status_code == 409
    assert "add a key yourself" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/auth/keys"),
        ("POST", "/api/v1/auth/keys/rotate"),
        ("DELETE", "/api/v1/auth/keys/abc"),
    ],
)
async def test_key_endpoints_require_the_admin_token(
    api: Api, headend: str, method: str, path: str
) -> None:
    for credential in ("x", headend, await token(api)):
        headers = {"Authorization": f"Bearer {credential}"}
        assert (await api.http.request(method, path, headers=headers)).status_code == 401


async def revoke(api: Api, credential: str | None, **body: Any) -> int:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    answer = await api.http.post("/api/v1/auth/revoke", headers=headers, json=body)
    return answer.status_code


def jti_of(text: str) -> str:
    payload = text.split(".")[1]
    claims = jwt.decode(text, options={"verify_signature": False})
    assert base64.urlsafe_b64decode(payload + "==")
    return str(claims["jti"])


@pytest.mark.parametrize("by", ["admin", "itself", "another of its tokens", "its key"])
async def test_one_token_is_revoked(api: Api, headend: str, by: str) -> None:
    lost, kept = await token(api), await token(api)
    body = {"jti": jti_of(lost)}
    credential = {"admin": "admin", "itself": lost, "another of its tokens": kept}.get(by, headend)
    if by == "its key":
        body |= {"node_id": "h-1", "node_type": "headend"}
    assert await submit(api, lost) == 200
    assert await revoke(api, credential, **body) == 200
    assert (await submit(api, lost), await submit(api, kept)) == (401, 200)
    assert await revoke(api, "admin", **body) == 200
    assert api.sample("tobogganing_manager_jwt_tokens_revoked_total", reason="jti") == 1
    record = api.registry.get("revocation", jti_of(lost))
    assert record is not None
    assert record.expires_at_ms is not None
    assert record.expires_at_ms / 1000 > time.time() + 24 * HOUR


@pytest.mark.parametrize("by", ["admin", "its token", "its key"])
async def test_all_tokens_of_a_node_are_revoked(api: Api, headend: str, by: str) -> None:
    lost = [await token(api), await token(api)]
    others = await token(api, "h-2")
    credential = {"admin": "admin", "its token": lost[0]}.get(by, headend)
    assert await revoke(api, credential, node_id="h-1", node_type="headend") == 200
    assert [await submit(api, text) for text in lost] == [401, 401]
    assert await submit(api, others, "h-2") == 200
    assert await submit(api, await token(api)) == 200
    assert api.sample("tobogganing_manager_jwt_tokens_revoked_total", reason="node") == 1


async def test_a_node_cannot_revoke_tokens_of_another_node(api: Api, headend: str) -> None:
    mine, theirs = await token(api), await token(api, "h-2")
    refused: list[tuple[str | None, dict[str, str]]] = [
        (mine, {"jti": jti_of(theirs)}),
        (mine, {"jti": "0"}),
        (headend, {"jti": jti_of(mine)}),  # the server cannot tell whose API key it is
        (headend, {"jti": jti_of(theirs), "node_id": "h-1", "node_type": "headend"}),
        (headend, {"node_id": "h-2", "node_type": "headend"}),
        (mine, {"node_id": "h-2", "node_type": "headend"}),
        (mine, {"node_id": "h-1", "node_type": "client"}),
        ("x", {"node_id": "h-1", "node_type": "headend"}),
        ("x", {"jti": jti_of(mine)}),
        (None, {"jti": jti_of(mine)}),
    ]
    for credential, body in refused:
        assert await revoke(api, credential, **body) == 401, body
    assert (await submit(api, mine), await submit(api, theirs, "h-2")) == (200, 200)


async def test_revocations_are_rate_limited(api: Api, headend: str) -> None:
    """Each revocation stays in the memory of every gateway for the lifetime of a token."""
    record = api.registry.get("headend", "h-1")
    assert record is not None
    node = {"node_id": "h-1", "node_type": "headend"}
    began, allowed = time.monotonic(), 0
    while await revoke(api, headend, jti=f"{record.incarnation}.0.{allowed}", **node) == 200:
        allowed += 1
    # the test may take a second, in which one more token is refilled
    assert 60 <= allowed <= 60 + math.ceil(time.monotonic() - began)
    assert await submit(api, await token(api)) == 200
    assert await revoke(api, "admin", jti=f"{record.incarnation}.0.{allowed}") == 200
    hits = "tobogganing_manager_api_rate_limit_hits_total"
    assert api.sample(hits, endpoint="/api/v1/auth/revoke", client_type="headend") == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"node_id": "h-1"},
        {"node_type": "headend"},
        {"jti": ""},
        {"jti": "a/b"},
        {"jti": 7},
        {"node_id": "h-1", "node_type": "king"},
    ],
)
async def test_invalid_revocations_are_refused(api: Api, body: dict[str, Any]) -> None:
    assert await revoke(api, "admin", **body) == 400


async def test_revoking_tokens_of_an_unknown_node_is_404(api: Api) -> None:
    assert await revoke(api, "admin", node_id="h-1", node_type="headend") == 404


async def test_verified_tokens_are_counted_by_result(api: Api, headend: str) -> None:
    body = {"node_id": "h-1", "node_type": "headend", "api_key": headend}
    text = (await api.http.post("/api/v1/auth/token", json=body)).json()["access_token"]
    record = api.registry.get("headend", "h-1")
    assert record is not None
    expired = api.jwt_service.issue(record, now=time.time() - 48 * HOUR).text
    assert [await submit(api, each) for each in (text, text, expired, "a.b.c")] == [
        200,
        200,
        401,
        401,
    ]
    counted = {
        result: api.sample("tobogganing_manager_jwt_tokens_validated_total", result=result)
        for result in ("success", "expired", "failure")
    }
    assert counted == {"success": 2, "expired": 1, "failure": 1}
    assert await revoke(api, expired, jti=jti_of(expired)) == 401
    validated = "tobogganing_manager_jwt_tokens_validated_total"
    assert api.sample(validated, result="expired") == 2
    assert api.sample("tobogganing_manager_jwt_tokens_issued_total", node_type="headend") == 1


async def test_a_token_is_invalid_for_the_next_registration_of_its_id(
    api: Api, headend: str
) -> None:
    old = await token(api)
    await api.http.delete("/api/v1/headends/h-1", headers=ADMIN)
    assert await submit(api, old) == 404
    await api.register("headends", name="h", cluster_id="k-1", headend_id="h-1")
    assert await submit(api, old) == 401
    assert await submit(api, await token(api)) == 200


async def test_an_older_read_of_the_folder_does_not_undo_a_rotation(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    load, looked, go_on = folder.load, threading.Event(), threading.Event()

    def slow_load() -> list[key_store.SigningKey]:
        found = load()
        if not looked.is_set():
            looked.set()
            go_on.wait(1.5)  # a rotation that could overtake this read has finished by then
        return found

    folder.load = slow_load  # type: ignore[method-assign]
    looking = asyncio.create_task(keys.refresh(soon()))
    await asyncio.to_thread(looked.wait)
    kid = await keys.create(soon())
    go_on.set()
    await looking
    signer = keys.signing_key()
    assert signer is not None
    assert signer[0].kid == kid


async def test_concurrent_rotations_return_the_key_that_signs(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore
) -> None:
    a, b = (gateway(settings, registry_topic, FileKeyStore(folder.folder)) for _ in range(2))
    for _ in range(3):  # seven keys: the pool has eight, and a repeated key would not be new
        await asyncio.gather(a.refresh(soon()), b.refresh(soon()))
        kids = await asyncio.gather(a.create(soon()), b.create(soon()))
        await asyncio.gather(a.refresh(soon()), b.refresh(soon()))
        assert signing(a) == signing(b)
        newest = a.published()[-1]
        assert newest.id in kids
        assert all(kid is None or a.public_key(kid) is not None for kid in kids)


async def test_a_rotation_overtaken_by_another_gateway_is_a_409(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: FileKeyStore, tmp_path: Path
) -> None:
    """Another gateway, with a different folder, publishes a later name during the rotation."""
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    before = signing(keys)
    other = FileKeyStore(tmp_path / "other")
    other.create(after="9999", now=time.time())
    newer = gateway(settings, registry_topic, other)
    create, loop = folder.create, asyncio.get_running_loop()

    def create_late(after: str, now: float) -> str:
        asyncio.run_coroutine_threadsafe(newer.refresh(soon()), loop).result(5)
        return create(after, now)

    folder.create = create_late  # type: ignore[method-assign]
    assert await keys.create(soon()) is None
    assert signing(keys) == before


async def test_a_file_is_read_after_its_mode_is_corrected(
    settings: GatewaySettings,
    registry_topic: InMemoryTopic,
    folder: FileKeyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = gateway(settings, registry_topic, folder)
    await keys.refresh(soon())
    file = folder.folder / "9.pem"
    write(file, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    read = key_store.read_key

    def read_key(path: Path) -> key_store.SigningKey:
        if path == file and stat.S_IMODE(path.stat().st_mode) == 0:
            raise PermissionError(13, "Permission denied")  # tests may run as root
        return read(path)

    monkeypatch.setattr(key_store, "read_key", read_key)
    file.chmod(0)
    await keys.refresh(soon())
    assert signing(keys) != "9"
    file.chmod(0o600)
    await keys.refresh(soon())
    assert signing(keys) == "9"


async def test_a_key_that_cannot_sign_is_logged_once(
    settings: GatewaySettings,
    registry_topic: InMemoryTopic,
    folder: FileKeyStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The folder was lost and recreated with an earlier name."""
    await gateway(settings, registry_topic, folder).refresh(soon())
    anew = tmp_path / "anew"
    anew.mkdir()
    write(anew / "0.pem", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    keys = gateway(settings, registry_topic, FileKeyStore(anew))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await keys.refresh(soon())
    assert keys.signing_key() is None
    (complaint,) = [line for line in logs if line["log_level"] == "error"]
    assert (complaint["name"], complaint["newest"]) == ("0", folder.load()[-1].name)
    assert await keys.create(soon()) is not None
    assert keys.signing_key() is not None


async def test_a_recreated_folder_needs_a_later_key_name(
    settings: GatewaySettings, registry_topic: InMemoryTopic, tmp_path: Path
) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    for name in ("0001", "2026-01-31T00.00.00Z"):
        write(lost / f"{name}.pem", rsa.generate_private_key(public_exponent=65537, key_size=2048))
        await gateway(settings, registry_topic, FileKeyStore(lost)).refresh(soon())
    anew = provide_signing_keys(tmp_path / "anew", {})
    keys = gateway(settings, registry_topic, FileKeyStore(anew))
    await keys.refresh(soon())
    assert keys.signing_key() is not None
