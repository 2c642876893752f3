"""The command line as processes: usage, output, and exit statuses that hold for every command."""

import asyncio
import os
import pty
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contract.evidence import PROCESSOR, Evidence, EvidenceReason, encode_evidence
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from
from tests.integration.command_line import CommandLine, all_of, clients, csv, submits
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.devstack.ports import LOOPBACK, free_ports

TOBOGGANING = Path(sys.executable).with_name("tobogganing")


@pytest.fixture
def nowhere() -> str:
    return f"http://{LOOPBACK}:{free_ports(1)[0]}"


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOBOGGANING, *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def on_a_terminal(*words: str, **environ: str) -> str:
    """Run a command on a terminal; return its output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(TOBOGGANING, ["tobogganing", *words], os.environ | environ)
    output = b""
    try:
        while chunk := os.read(terminal, 4096):
            output += chunk
    except OSError:
        pass  # the terminal of a process that has ended
    os.waitpid(pid, 0)
    os.close(terminal)
    return output.decode()


def test_version_and_help() -> None:
    assert run("--version").stdout.split()[-1] == version("tobogganing-metrics")
    shown = run("--help", COLUMNS="80").stdout
    headings = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Options:", "Run:", "Services:", "Fleet:", "Look:", "Repair:"]
    assert "..." not in shown.replace("[ARGS]...", ""), "no help is cut"
    assert "70 internal error" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("clints", "list"), "Did you mean 'clients'?"),
        (("clients", "lst"), "Did you mean 'list'?"),
        (("clients", "list", "--typ", "native"), "Did you mean --type?"),
    ],
)
def test_a_misspelled_word_is_corrected(words: tuple[str, ...], meant: str) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert meant in ended.stderr


def test_the_address_may_precede_the_subcommand(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(ADMIN_TOKEN)
    first, second, third = (f"http://{LOOPBACK}:{port}" for port in free_ports(3))
    admin = ("--admin-token-file", str(token))
    for words, url in (
        (("--url", first, *admin, "clients", "list"), first),
        (("clients", "--url", first, *admin, "list"), first),
        (("clients", "list", "--url", first, *admin), first),
        (("--url", first, *admin, "clients", "list", "--url", second), second),
    ):
        ended = run(*words, TOBOGGANING_URL=third)
        assert ended.returncode == 1
        assert f"no gateway responds at {url} " in ended.stderr


def test_a_terminal_gets_tables_and_colours_and_others_plain_text() -> None:
    plan = ("plan", "--clients", "1000")
    assert "\x1b[" in on_a_terminal("--help")
    assert "\x1b[" not in on_a_terminal("--help", NO_COLOR="1")
    assert "\x1b[" not in run("--help").stdout
    assert "1,000 clients" in run(*plan).stdout
    shown = on_a_terminal("exporter", "--settings", COLUMNS="120")
    assert "━" in shown or "─" in shown
    assert "─" not in run("exporter", "--settings").stdout


def test_completion_in_bash() -> None:
    script = """
        set -u
        eval "$(_TOBOGGANING_COMPLETE=bash_source tobogganing)"
        complete -p tobogganing
        COMP_WORDS=(tobogganing clients re) COMP_CWORD=2
        _tobogganing_completion tobogganing
        printf '%s\\n' "${COMPREPLY[@]}"
        COMP_WORDS=(tobogganing clients add --type na) COMP_CWORD=4
        _tobogganing_completion tobogganing
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{TOBOGGANING.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "remove" in done.stdout.splitlines()
    assert "native" in done.stdout.splitlines()


@pytest.mark.parametrize("service", ["gateway", "processor", "exporter", "serve", "topics"])
def test_settings_have_value_source_and_default(service: str, tmp_path: Path) -> None:
    token = tmp_path / "metrics"
    token.write_text("the-token-of-this-test")
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
        "KAFKA_PARTITIONS": "12",
        "KAFKA_SASL_PASSWORD": "the-password-of-this-test",
        "METRICS_TOKEN_FILE": str(token),
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": str(tmp_path),
    }
    ended = run(service, "--settings", **environ)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "SOURCE", "DEFAULT"]
    assert ["KAFKA_PARTITIONS", "12", "environment", "4"] in lines
    assert ["KAFKA_TOPIC_PREFIX", "tobogganing.", "default", "tobogganing."] in lines
    assert ["KAFKA_SASL_PASSWORD", "(hidden)", "environment"] in lines
    if service != "topics":
        assert ["METRICS_TOKEN", "(hidden)", str(token)] in lines
    for secret in ("the-token-of-this-test", "the-password-of-this-test", ADMIN_TOKEN):
        assert secret not in ended.stdout + ended.stderr
    assert ended.returncode == 2, "KAFKA_SASL_PASSWORD is not used with PLAINTEXT"
    assert "KAFKA_SASL_PASSWORD: not used" in ended.stderr


def test_exit_statuses(nowhere: str, tmp_path: Path) -> None:
    """0, 1 and 2 are in other tests of this module, too; 70 is an error of the program."""
    assert run("plan").returncode == 0
    assert run("clients", "list", "--url", nowhere, ADMIN_TOKEN=ADMIN_TOKEN).returncode == 1
    no_token = run("clients", "list", "--url", nowhere, STATE_DIR=str(tmp_path), ADMIN_TOKEN="")
    assert no_token.returncode == 2
    assert "no ADMIN_TOKEN" in no_token.stderr
    assert run("clients", "remove").returncode == 2
    (tmp_path / "uvloop.py").write_text("raise MemoryError\n")
    files = tmp_path / "keys"
    files.mkdir()
    broken = run(
        "exporter",
        PYTHONPATH=str(tmp_path),
        KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:1",
        METRICS_TOKEN="metrics-token-of-the-tests",
        HOST=LOOPBACK,
        PORT=str(free_ports(1)[0]),
    )
    assert broken.returncode == 70, broken.stderr
    assert "MemoryError" in broken.stderr


@pytest.mark.parametrize(
    "words", [("simulate",), ("fleet", "import"), ("fleet", "remove", "--yes")], ids=" ".join
)
def test_a_dead_port_is_reported_in_seconds(
    words: tuple[str, ...], nowhere: str, tmp_path: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(csv(clients(10)))
    began = time.monotonic()
    more = () if words == ("simulate",) else (str(file),)
    ended = run(*words, *more, "--url", nowhere, ADMIN_TOKEN=ADMIN_TOKEN)
    assert ended.returncode == 1
    assert f"no gateway responds at {nowhere} " in ended.stderr
    assert time.monotonic() - began < 20


async def closed_after_a_line(command: CommandLine, *words: str) -> tuple[int, str]:
    """Close a command's stdout after its first line; return its status and stderr."""
    async with command.started(*words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.readline()
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            err = (await process.stderr.read()).decode()
            return await process.wait(), err


@pytest.fixture
async def gateway(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    async with Service("gateway", kafka_settings, tmp_path, **secrets) as service:
        await service.wait_until_ready()
        yield service


async def test_a_full_or_closed_output_is_no_error_of_kafka(
    gateway: Service, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    command = CommandLine(
        gateway.url,
        KAFKA_BOOTSTRAP_SERVERS=kafka_settings.kafka_bootstrap_servers,
        KAFKA_TOPIC_PREFIX=kafka_settings.kafka_topic_prefix,
    )
    fleet = csv(clients(2500))
    await command.good("fleet", "import", "-", "--format", "csv", stdin=fleet)
    for words in (("clients", "list", "--json"), ("fleet", "export", "-", "--format", "csv")):
        status, err = await closed_after_a_line(command, *words)
        assert (status, err) in ((0, ""), (1, "")) or "2,500" in err, (words, err)
        assert "Kafka" not in err
    for listing in (("history", "show"), ("clients", "list", "--limit", "3")):
        full = os.open("/dev/full", os.O_WRONLY)
        async with command.started(*listing, stdout=full) as process:
            _, err_bytes = await process.communicate()
        os.close(full)
        assert process.returncode == 1
        assert err_bytes == b"Error: stdout cannot be written: No space left on device\n"


async def test_the_second_import_registers_nothing(gateway: Service, tmp_path: Path) -> None:
    command = CommandLine(gateway.url)
    file = tmp_path / "fleet.csv"
    file.write_text(csv(clients(1)))
    words = ("fleet", "import", str(file), "--credentials", str(tmp_path / "keys.csv"))
    assert "registered 1 of 1 in" in (await command.good(*words)).err
    again = (await command.good(*words)).err
    assert "registered 0 of 1 in" in again
    assert "registered before: 1\n" in again
    exported = await command.good("fleet", "export", str(tmp_path / "out.csv"))
    assert exported.err.splitlines()[-1] == "0 clusters, 0 headends, 1 client"


async def test_entities_that_never_reported_are_removed(
    gateway: Service, processor: Service, kafka_settings: KafkaSettings
) -> None:
    command = CommandLine(
        gateway.url,
        KAFKA_BOOTSTRAP_SERVERS=kafka_settings.kafka_bootstrap_servers,
        KAFKA_TOPIC_PREFIX=kafka_settings.kafka_topic_prefix,
    )
    keys = {}
    for id, kind in (("on", "docker"), ("off", "docker"), ("gone", "docker"), ("other", "native")):
        words = ("clients", "add", id, "--id", id, "--type", kind, "--json")
        keys[id] = (await command.good(*words)).document["api_key"]
    assert await submits(gateway, "on", keys["on"]) == 200
    expired = Evidence(1, "client", "gone", PROCESSOR, EvidenceReason.EXPIRED, 1, 1, 2)
    async with AIOKafkaProducer(**client_options(kafka_settings)) as producer:
        topic = topics_from(kafka_settings).evidence.name
        value = encode_evidence(expired)
        await producer.send_and_wait(topic, value, key=expired.key, partition=0)
    choose = ("clients", "remove", "--type", "docker", "--never-reported")
    refused = await command(*choose, stdin="n\n")
    assert refused.status == 1
    assert "Remove 1 client (off)? [y/N]" in refused.err
    assert len(await all_of(command, "clients")) == 4
    removed = (await command.good(*choose, "--yes", "--json")).document
    assert removed == {"removed": 1, "not_registered": 0, "faults": 0, "left": 0}
    left = {each["client_id"] for each in await all_of(command, "clients")}
    assert left == {"on", "gone", "other"}
    assert (await command("clients", "remove", "on", "--never-reported")).status == 2
