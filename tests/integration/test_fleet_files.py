"""`tobogganing fleet import` and `export`, with interruptions and errors."""

import asyncio
import json
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.command_line import (
    CommandLine,
    all_of,
    clients,
    csv,
    submits,
    until_line,
)
from tests.integration.processes import ADMIN_TOKEN, Service

FLEET = csv(
    [
        "headend,h1,Headend Ä,,far,,,",
        *clients(40),
        'client,quoted,"Anna ""A"", of Zürich",mobile,,,,',
        "cluster,far,Far away,,,ap,syd1,https://far.example",
        "headend,h2,H2,,near,,,",
        "cluster,near,Near,,,eu,fra1,",
    ]
)


def gateway_of(settings: KafkaSettings, folder: Path, signing_keys: str) -> Service:
    return Service(
        "gateway", settings, folder, ADMIN_TOKEN=ADMIN_TOKEN, SIGNING_KEYS_DIR=signing_keys
    )


@pytest.fixture
async def gateway(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    async with gateway_of(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        yield service


@pytest.fixture
def command(gateway: Service) -> CommandLine:
    return CommandLine(gateway.url)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.csv"


def keys_in(file: Path) -> dict[str, str]:
    """API keys by `kind:id`, which must be unique."""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    found = {f"{kind}:{id}": api_key for kind, id, api_key in rows}
    assert len(found) == len(rows)
    return found


async def registered(command: CommandLine) -> set[str]:
    found = {f"client:{client['client_id']}" for client in await all_of(command, "clients")}
    return found | {
        f"headend:{headend['headend_id']}" for headend in await all_of(command, "headends")
    }


async def test_an_imported_fleet_works(
    gateway: Service, command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(FLEET)
    words = ("fleet", "import", str(file), "--credentials", str(keys), "--json")
    done = (await command.good(*words)).document
    assert done["registered"] == {"clusters": 2, "headends": 2, "clients": 41}
    held = keys_in(keys)
    assert set(held) == await registered(command)
    assert await submits(gateway, "client-00007", held["client:client-00007"]) == 200

    again = (await command.good(*words)).document
    assert again["registered"] == {"clusters": 0, "headends": 0, "clients": 0}
    assert again["registered_before"] == 45
    assert again["without_key"] == []
    assert keys_in(keys) == held
    assert not any(key in gateway.log() for key in held.values())

    ended = await command.good(*words[:3], "--credentials", f"{keys}.other")
    assert "registered before, without a key in the file: 43 (" in ended.err


async def test_empty_rows_of_a_spreadsheet_are_skipped(
    command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text("kind,id,name,type\r\nclient,ada,Ada,native\r\n,,,\r\n , ,,\r\n")
    words = ("fleet", "import", str(file), "--credentials", str(keys), "--json")
    done = (await command.good(*words)).document
    assert done["registered"] == {"clusters": 0, "headends": 0, "clients": 1}
    assert set(keys_in(keys)) == await registered(command) == {"client:ada"}


@pytest.mark.parametrize("format", ["csv", "ndjson"])
async def test_an_export_can_be_imported(
    kafka_settings: KafkaSettings,
    signing_keys: str,
    command: CommandLine,
    tmp_path: Path,
    format: str,
) -> None:
    await command.good("fleet", "import", "-", "--format", "csv", stdin=FLEET)
    out = tmp_path / f"fleet.{format}"
    assert (await command.good("fleet", "export", str(out), "--json")).document == {
        "clusters": 2,
        "headends": 2,
        "clients": 41,
    }
    other = KafkaSettings(
        kafka_bootstrap_servers=kafka_settings.kafka_bootstrap_servers,
        kafka_topic_prefix=f"{kafka_settings.kafka_topic_prefix}other.",
    )
    async with gateway_of(other, tmp_path, signing_keys) as second:
        await second.wait_until_ready()
        there = CommandLine(second.url)
        await there.good("fleet", "import", str(out), "--credentials", str(tmp_path / "k.ndjson"))
        again = (await there.good("fleet", "export", "-", "--format", format)).out
        assert await registered(there) == await registered(command)
    assert again == out.read_text()
    assert again.count("\n") == 45 + (format == "csv")
    assert "Far away" in again


async def test_keys_go_to_stdout_without_a_file(gateway: Service, command: CommandLine) -> None:
    words = ("fleet", "import", "-", "--format", "csv")
    given = (await command.good(*words, stdin=csv(clients(3)))).documents
    assert [key["kind"] for key in given] == ["client"] * 3
    assert await submits(gateway, given[0]["id"], given[0]["api_key"]) == 200
    assert "--credentials" in await command.bad(*words, "--json", stdin=csv(clients(3, 10)))
    assert len(await registered(command)) == 3


async def test_one_bad_line_prevents_the_import(
    command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    bad = ["client,-,No id,native,,,,", "client,client-00001,Twice,native,,,,", "headend,h"]
    file.write_text(csv([*clients(10), *bad]))
    ended = await command("fleet", "import", str(file), "--credentials", str(keys))
    assert ended.status == 1
    lines = ended.err.splitlines()
    assert lines[0].startswith(f"{file}:12: id: must begin with")
    assert lines[1] == f"{file}:13: id: client:client-00001 is in line 3 already"
    assert lines[2] == f"{file}:14: has 2 columns instead of 8"
    assert lines[3] == "Error: 3 bad lines: nothing was registered"
    assert await registered(command) == set()


async def test_a_cluster_may_be_registered_elsewhere(command: CommandLine) -> None:
    words = ("fleet", "import", "-", "--format", "csv")
    fleet = csv([*clients(2), "headend,h1,H1,,old,,,"])
    ended = await command(*words, stdin=fleet)
    assert ended.status == 1
    assert "-:4: cluster_id: old is neither in this file nor registered" in ended.err
    assert await registered(command) == set()
    await command.good(
        *("clusters", "add", "Old", "--id", "old", "--region", "eu", "--datacenter", "fra1")
    )
    await command.good(*words, stdin=fleet)
    assert "headend:h1" in await registered(command)


async def test_ctrl_c_loses_no_key_and_the_next_import_goes_on(
    command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(csv(clients(40_000)))
    words = ("fleet", "import", str(file), "--credentials", str(keys))
    async with command.started(*words) as process:
        await until_line(process, "processed: 10,000 of 40,000")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    assert process.returncode == 130, err
    assert "run the same command again to register them" in err.decode()
    first = keys_in(keys)
    assert 10_000 <= len(first) < 40_000
    assert set(first) == await registered(command), "who is registered has a key"

    done = (await command.good(*words, "--json")).document
    assert done["registered_before"] == len(first)
    assert done["without_key"] == []
    held = keys_in(keys)
    assert len(held) == 40_000
    assert held.items() >= first.items()
    assert not keys.with_name("keys.csv.pending").exists()


async def test_after_a_kill_the_next_import_has_every_key(
    gateway: Service, command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(csv(clients(40_000)))
    words = ("fleet", "import", str(file), "--credentials", str(keys))
    async with command.started(*words) as process:
        await until_line(process, "processed: 10,000 of 40,000")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    pending = keys.with_name("keys.csv.pending")
    assert stat.S_IMODE(pending.stat().st_mode) == 0o600
    done = (await command.good(*words, "--json")).document
    assert done["without_key"] == []
    held = keys_in(keys)
    assert len(held) == 40_000
    assert set(held) == await registered(command)
    for id in ("client-00000", "client-10017", "client-39999"):
        assert await submits(gateway, id, held[f"client:{id}"]) == 200
    assert not pending.exists()


async def test_an_import_waits_for_a_killed_gateway(
    gateway: Service, command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(csv(clients(40_000)))
    words = ("fleet", "import", str(file), "--credentials", str(keys), "--json")
    async with command.started(*words) as process:
        await until_line(process, "processed: 10,000 of 40,000")
        await gateway.end(signal.SIGKILL)
        await gateway.start()
        async with asyncio.timeout(90):
            out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["unsure"] == []
    held = keys_in(keys)
    assert len(held) == 40_000
    assert set(held) == await registered(command)


async def test_keys_that_cannot_be_written_end_the_import(command: CommandLine) -> None:
    words = ("fleet", "import", "-", "--format", "csv", "--json", "--connections", "1")
    ended = await command(*words, "--credentials", "/dev/full", stdin=csv(clients(1000)))
    assert ended.status == 1
    assert "could not be written" in ended.err
    lost = set(ended.document["lost"])
    assert len(lost) == 500, "those of one request"
    assert lost == await registered(command), "no other was registered"


async def test_a_fleet_is_removed_by_its_file(
    command: CommandLine, tmp_path: Path, keys: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(FLEET)
    await command.good("fleet", "import", str(file), "--credentials", str(keys))
    file.write_text(FLEET + "client,never-there,N,native,,,,\n")
    await command.good("clients", "add", "Other", "--id", "other", "--type", "native")
    words = ("fleet", "remove", str(file), "--yes", "--json")
    counts = {"removed": 45, "not_registered": 1, "faults": 0, "left": 0}
    assert (await command.good(*words)).document == counts
    assert await registered(command) == {"client:other"}
    assert await all_of(command, "clusters") == []
    assert (await command.good(*words)).document == counts, "doing so again is harmless"


async def test_a_cluster_with_other_headends_stays(command: CommandLine) -> None:
    file = csv(["cluster,far,Far away,,,ap,syd1,"])
    await command.good("fleet", "import", "-", "--format", "csv", stdin=file)
    where = ("--cluster-id", "far", "--id", "h")
    await command.good("headends", "add", "H", *where)
    ended = await command("fleet", "remove", "-", "--format", "csv", stdin=file)
    assert ended.status == 1
    assert "remove them first" in ended.err
