"""METRICS_TOKEN and ADMIN_TOKEN are rotated while the services run."""

import asyncio
from pathlib import Path

from service.config.settings import KafkaSettings
from tests.integration.gateways import gateway
from tests.integration.processes import Service

SOON = 5.0
"""Seconds; a file is checked once a second if there are requests."""


def write(file: Path, text: str) -> None:
    part = file.with_name("part")
    part.write_text(text)
    part.replace(file)


async def status(service: Service, path: str, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return (await service.http.get(path, headers=headers)).status_code


async def until(service: Service, path: str, token: str, expected: int) -> None:
    async with asyncio.timeout(SOON):
        while await status(service, path, token) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def old(path: str) -> str:
    return f"old-token-of-{path}"


def new(path: str) -> str:
    return f"new-token-of-{path}"


async def test_scrapes_and_administration_succeed_throughout_a_rotation(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    files = {"/metrics": tmp_path / "metrics", "/api/v1/clients": tmp_path / "admin"}
    for path, file in files.items():
        write(file, f"{old(path)}\n")
    names = dict(zip(("METRICS_TOKEN", "ADMIN_TOKEN"), files.values(), strict=True))
    environ = {f"{name}_FILE": str(file) for name, file in names.items()}
    unset = dict.fromkeys(names, "")
    async with gateway(kafka_settings, tmp_path, signing_keys, **unset, **environ) as service:
        await service.wait_until_ready()
        for path, file in files.items():
            assert [await status(service, path, token) for token in (old(path), new(path))] == [
                200,
                401,
            ]
            write(file, f"{new(path)}, {old(path)}")
            await until(service, path, new(path), 200)
            assert await status(service, path, old(path)) == 200
            write(file, new(path))
            await until(service, path, old(path), 401)
            assert await status(service, path, new(path)) == 200
            file.unlink()
            await until_logged(service, "tokens not reloaded", path)
            both = (old(path), new(path))
            assert [await status(service, path, token) for token in both] == [401, 200]
            assert new(path) not in service.log()


async def until_logged(service: Service, text: str, path: str) -> None:
    """Send requests until the service has logged the event for this path."""
    before = service.log().count(text)
    async with asyncio.timeout(SOON):
        while service.log().count(text) == before:
            assert await status(service, path, new(path)) == 200
            await asyncio.sleep(0.05)


async def test_several_tokens_may_be_set_in_the_environment(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    metrics, admin = "/metrics", "/api/v1/clients"
    several = {
        "METRICS_TOKEN": f"{new(metrics)}, {old(metrics)}",
        "ADMIN_TOKEN": f"{new(admin)} {old(admin)}",
    }
    async with gateway(kafka_settings, tmp_path, signing_keys, **several) as service:
        await service.wait_until_ready()
        for path, other in ((metrics, admin), (admin, metrics)):
            assert await status(service, path, new(path)) == 200
            assert await status(service, path, old(path)) == 200
            assert await status(service, path, new(other)) == 401


async def test_a_token_file_cannot_change_to_the_other_token(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    metrics, admin = tmp_path / "metrics", tmp_path / "admin"
    paths = {metrics: "/metrics", admin: "/api/v1/clients"}
    for file, path in paths.items():
        write(file, new(path))
    environ = {"METRICS_TOKEN_FILE": str(metrics), "ADMIN_TOKEN_FILE": str(admin)}
    unset = {"METRICS_TOKEN": "", "ADMIN_TOKEN": ""}
    async with gateway(kafka_settings, tmp_path, signing_keys, **unset, **environ) as service:
        await service.wait_until_ready()
        for file, other in ((admin, metrics), (metrics, admin)):
            path = paths[file]
            write(file, new(paths[other]))
            await until_logged(service, "tokens not reloaded", path)
            assert await status(service, path, new(paths[other])) == 401
            assert await status(service, path, new(path)) == 200
            write(file, "fifteen-letters")
            await until_logged(service, "tokens not reloaded", path)
            assert await status(service, path, "fifteen-letters") == 401
            assert await status(service, path, new(path)) == 200
            write(file, new(path))
        assert "contains a token of METRICS_TOKEN" in service.log()
        assert "contains a token of ADMIN_TOKEN" in service.log()
