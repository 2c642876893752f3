"""`status`, `show` and `list` with check-ins, `audit` and `anomalies`, against the services."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.command_line import CommandLine, submits
from tests.integration.gateways import a_manager
from tests.integration.processes import METRICS_TOKEN, POLL, Service


@pytest.fixture
async def manager(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, processor: Service
) -> AsyncIterator[Service]:
    extra = {
        "CLIENT_ONLINE_SECONDS": "2",
        "CLIENT_LATE_SECONDS": "3",
    }
    async with a_manager(kafka_settings, tmp_path, signing_keys, processor, **extra) as service:
        yield service


@pytest.fixture
def command(manager: Service, kafka_settings: KafkaSettings, tmp_path: Path) -> CommandLine:
    return CommandLine(
        manager.url,
        METRICS_TOKEN=METRICS_TOKEN,
        KAFKA_BOOTSTRAP_SERVERS=kafka_settings.kafka_bootstrap_servers,
        KAFKA_TOPIC_PREFIX=kafka_settings.kafka_topic_prefix,
        STATE_DIR=str(tmp_path / "no-local-run"),
    )


async def registered(command: CommandLine, id: str) -> str:
    words = ("clients", "add", f"Name of {id}", "--type", "native", "--id", id, "--json")
    return str((await command.good(*words)).document["api_key"])


async def shown(command: CommandLine, *words: str, part: str) -> str:
    """Run a command until its output contains `part`."""
    out = ""
    try:
        async with asyncio.timeout(90):
            while part not in out:
                out = (await command.good(*words)).out
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"{part!r} is not in {out}") from None
    return out


async def test_check_ins_in_the_terminal(manager: Service, command: CommandLine) -> None:
    key = await registered(command, "a")
    await registered(command, "b")
    assert await submits(manager, "a", key) == 200
    out = await shown(command, "clients", "list", "--state", "silent", part="offline")
    assert out.splitlines()[0].split() == [
        *("ID", "NAME", "STATE", "LAST_CHECK_IN", "AGE", "TYPE", "HEADLESS")
    ]
    assert "Name of b" not in out
    words = ("clients", "list", "--since", "2s", "--type", "native", "--json")
    found = {each["id"]: each["state"] for each in (await command.good(*words)).documents}
    assert found == {"a": "offline", "b": "never"}
    assert (await command.good("clients", "list", "--since", "3d", "--json", "--state",
                               "silent")).out == ""  # fmt: skip
    assert (await command.good("headends", "list", "--state", "silent", "--json")).out == ""
    await command.good("clusters", "add", "F", "--id", "fra", "--region", "eu", "--datacenter", "d")
    assert "fra" in await shown(command, "clusters", "list", "--state", "never", part="fra")
    assert "never" in await shown(command, "clusters", "show", "fra", part="state")

    assert await submits(manager, "b", "a-wrong-key-of-the-tests") == 401
    out = await shown(command, "clients", "show", "b", part="127.0.0.0/24")
    assert "Name of b" in out
    assert "wrong credential" in out
    document = (await command.good("clients", "show", "a", "--json")).document
    assert (document["client_id"], document["checkin"]["state"]) == ("a", "offline")
    assert document["why"]["verdict"] == "silent"

    out = (await command.good("status")).out
    assert out.splitlines()[1].split() == ["clients", "2", "0", "0", "1", "1"]
    assert f"{manager.url}/checkins" in out
    overview = (await command.good("status", "--json")).document
    assert (overview["total_clients"], overview["is_current"]) == (2, True)
    assert "items" not in overview

    await command.good("clients", "remove", "b", "--yes")
    fault = await command.bad("clients", "show", "b")
    assert "there is no client b" in fault
    assert "was removed" in fault
    assert "there is no client nobody" in await command.bad("clients", "show", "nobody")
    assert "--enrolment-id" in (await command("clients", "list", "--state", "late",
                                              "--enrolment-id", "e")).err  # fmt: skip


async def test_the_logs_in_the_terminal(manager: Service, command: CommandLine) -> None:
    key = await registered(command, "a")
    await registered(command, "b")
    out = (await command.good("audit", "--target", "client:a")).out
    assert len(out.splitlines()) == 2
    assert out.splitlines()[1].split()[1:6] == [
        *("admin", "register", "client:a", "allowed", "127.0.0.1")
    ]
    documents = (await command.good("audit", "--json", "--action", "register")).documents
    assert [each["target"] for each in documents] == ["client:a", "client:b"]
    assert key not in str(documents)
    assert (await command.good("audit", "--json", "--limit", "1", "--since", "1h")).documents == [
        documents[0]
    ]
    assert (await command.good("audit", "--json", "--actor", "client:a")).out == ""
    assert (await command.good("audit", "--actor", "client:a")).out.split()[:2] == ["AT", "ACTOR"]
    assert (await command.good("anomalies")).out.split()[:2] == ["AT", "KIND"]

    fleet = "".join(f"client,sim-{n},C,native\n" for n in range(1200))
    await command.good(
        *("fleet", "import", "-", "--format", "csv"), stdin=f"kind,id,name,type\n{fleet}"
    )
    (row,) = (await command.good("audit", "--target", "client:sim-7")).out.splitlines()[1:]
    assert row.split()[1:5] == ["admin", "register-many", "registrations", "(500)"]
    (many,) = (await command.good("audit", "--json", "--target", "client:sim-1199")).documents
    assert "sim-1199" in many["details"]["client"].split()
    assert len((await command.good("audit", "--target", "registrations")).out.splitlines()) == 4

    async with command.started("audit", "--follow", "--json", "--action", "remove") as process:
        await command.good("clients", "remove", "b", "--yes")
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert b'"client:b"' in line

    for sent in (1000, 10):
        response = await manager.http.post(
            "/api/v1/clients/a/metrics",
            json={"metrics": {"bytes_sent": sent, "connection_uptime": 9999}},
            headers={"authorization": f"Bearer {key}"},
        )
        assert response.status_code == 200
    receipt = response.json()["receipt"]
    words = ("anomalies", "--reason", "backwards", "--id", "a")
    assert receipt in await shown(command, *words, part=receipt)
    assert (await command.good(*words, "--kind", "headend", "--json")).out == ""
