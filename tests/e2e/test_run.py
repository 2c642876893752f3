"""`tobogganing run` keeps what its help and its banner promise."""

import json
import re
import signal
import socket
import stat
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.local_run import PARTS, LocalRun, processes, wait_for
from tests.shared_kafka import SharedKafka
from tobogganing.devstack.process import command_line

SECRETS = ("METRICS_TOKEN", "ADMIN_TOKEN", "CA_PEM")
SHOWN = re.compile(r'tobogganing_client_bytes_sent\{client_id="(test-client-\d+)".*\} 1000')


def scrape(run: LocalRun) -> str:
    return get(run, "/metrics")


def get(run: LocalRun, path: str) -> str:
    token = run.secret("METRICS_TOKEN")
    request = urllib.request.Request(
        f"{run.url}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return str(answer.read(), "utf-8")


def until_shown(run: LocalRun, what: str) -> str:
    """The client that the printed block shows, in the end. It names one new client a second."""
    shown: list[str] = []

    def pasted() -> bool:
        shown.extend(SHOWN.findall(run.paste()))
        return bool(shown)

    wait_for(pasted, what)
    return shown[0]


def left_running(run: LocalRun) -> list[str]:
    """Parts of this run that are still there, in whoever's hands."""
    return [
        command
        for _, command in processes().values()
        if str(run.state) in command and "kafka.Kafka" in command
    ]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "a state"


def test_a_newcomer_sees_their_numbers_and_finds_them_again_after_a_restart(state: Path) -> None:
    with LocalRun(state) as first:
        first.until_ready()
        shown = SHOWN.search(first.paste())
        assert shown
        secrets = {name: first.secret(name) for name in SECRETS}
        for name in SECRETS:
            assert stat.S_IMODE((state / "secrets" / name).stat().st_mode) == 0o600
        seen = first.output + "".join(command for _, command in processes().values())
        assert not [name for name in SECRETS if secrets[name] in seen]

        began = time.monotonic()
        assert first.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 10
        assert left_running(first) == []

    with LocalRun(state, first.port) as second:
        second.until_ready()
        assert {name: second.secret(name) for name in SECRETS} == secrets
        assert f'client_id="{shown[1]}"' in scrape(second)
        assert SHOWN.search(second.paste())
        assert second.end(signal.SIGINT) == 0
        assert "died" not in first.output + second.output


def test_commands_find_the_run_and_its_kafka_by_themselves(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_ready()
        until_shown(run, "a submission that was processed")
        ledger = run.command("ledger", "--audit", "--json")
        assert ledger.returncode == 0, ledger.stderr
        shown = json.loads(ledger.stdout)
        assert shown["balances"] is True
        assert sum(each["read"] for each in shown["partitions"]) >= 1
        assert all(each["agrees"] for each in shown["audit"])
        partition = next(each for each in shown["partitions"] if each["read"])
        receipt = f"{partition['partition']}-{partition['offset']}-0"
        answer = json.loads(get(run, f"/api/v1/receipts/{receipt}"))
        assert answer == {"receipt": receipt, "state": "processed", "result": "applied"}
        letters = run.command("dead-letters", "list")
        assert (letters.returncode, letters.stdout) == (0, ""), letters.stderr


def test_a_part_that_dies_is_started_again_and_nothing_is_lost(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_ready()
        clients = []
        for name in PARTS:
            clients.append(until_shown(run, f"numbers before the end of {name}"))
            run.kill(name)
            run.until_said(f"{name} died (signal SIGKILL)")
            clients.append(until_shown(run, f"numbers without {name}"))
        text = scrape(run)
        assert [client for client in clients if f'client_id="{client}"' not in text] == []
        assert run.end(signal.SIGTERM) == 0
        assert left_running(run) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_run_takes_its_parts_along_and_can_be_started_again(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_ready()
        shown = SHOWN.search(run.paste())
        assert shown
        parts = [pid for name in PARTS if (pid := run.part(name))]
        assert len(parts) == len(PARTS)
        run.end(signal.SIGKILL)
        wait_for(lambda: not any(map(command_line, parts)), "the end of all parts", 5)
    with LocalRun(state, run.port) as again:
        again.until_ready()
        assert f'client_id="{shown[1]}"' in scrape(again)


def test_a_second_run_on_the_folder_says_so(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_said("starting Kafka")
        with LocalRun(state) as second:
            assert second.process.wait(20) == 1
            second.until_said(f"already running on {state} (process {run.process.pid})")
        # The first one is not disturbed, and may be stopped before it is ready.
        assert run.end(signal.SIGTERM) == 0
        assert left_running(run) == []


def test_a_taken_port_is_named_before_anything_is_started(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with LocalRun(state, port) as run:
            assert run.process.wait(20) == 2
            run.until_said(f"PORT={port}: port {port} is taken")
            assert len(run.output.splitlines()) == 1
    assert not (state / "kafka").exists()


@pytest.mark.parametrize("said", ["starting Kafka", "starting processor and gateway"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_can_be_stopped(state: Path, said: str, number: signal.Signals) -> None:
    with LocalRun(state) as run:
        run.until_said(said)
        began = time.monotonic()
        assert run.end(number) == 0
        assert time.monotonic() - began < 10
        assert left_running(run) == []


def test_a_second_signal_ends_everything_at_once(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_said("starting processor and gateway")
        kafka = run.part("kafka")
        assert kafka
        run.process.send_signal(signal.SIGINT)
        run.until_said("stopping")
        assert run.end(signal.SIGINT) in (0, 130)
        wait_for(lambda: not command_line(kafka), "the end of Kafka", 5)


def test_an_existing_kafka_is_used_when_there_is_one(
    state: Path, kafka: SharedKafka, topic_prefix: str
) -> None:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": topic_prefix,
        "METRICS_TOKEN": "from-the-environment",
    }
    with LocalRun(state, environ=environ) as run:
        run.until_ready()
        assert run.part("kafka") is None
        assert "${METRICS_TOKEN}" in run.output
        assert not (state / "secrets" / "METRICS_TOKEN").exists()
        assert run.end(signal.SIGTERM) == 0
