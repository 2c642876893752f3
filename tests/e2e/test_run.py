"""`tobogganing run` keeps what its help and its banner promise."""

import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.local_run import PARTS, SHOWN, LocalRun, processes, wait_for
from tests.shared_kafka import SharedKafka
from tobogganing.devstack.process import command_line

SECRETS = ("METRICS_TOKEN", "ADMIN_TOKEN", "CA_PEM")


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
        assert first.left_running() == []

    with LocalRun(state, first.port) as second:
        second.until_ready()
        assert {name: second.secret(name) for name in SECRETS} == secrets
        assert f'client_id="{shown[1]}"' in second.get("/metrics")
        later = SHOWN.search(second.paste())
        assert later
        parts = [pid for name in PARTS if (pid := second.part(name))]
        assert len(parts) == len(PARTS)
        # Only Linux kills children with their parent.
        second.end(signal.SIGKILL if sys.platform == "linux" else signal.SIGTERM)
        wait_for(lambda: not any(map(command_line, parts)), "the end of all parts", 5)

    with LocalRun(state, first.port) as third:
        third.until_ready()
        text = third.get("/metrics")
        assert all(f'client_id="{found[1]}"' in text for found in (shown, later))
        assert third.end(signal.SIGINT) == 0
        assert "died" not in first.output + second.output + third.output


def test_a_second_run_on_the_folder_says_so(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_said("starting Kafka")
        with LocalRun(state) as second:
            assert second.process.wait(20) == 1
            second.until_said(f"already running on {state} (process {run.process.pid})")
        # The first one is not disturbed, and may be stopped before it is ready.
        assert run.end(signal.SIGTERM) == 0
        assert run.left_running() == []


def test_a_taken_port_is_named_before_anything_is_started(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with LocalRun(state, port) as run:
            assert run.process.wait(20) == 2
            run.until_said(f"PORT={port}: port {port} is taken")
            assert len(run.output.splitlines()) == 1
    assert not (state / "kafka").exists()


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("starting processor and gateway", signal.SIGINT),
        pytest.param("starting Kafka", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("starting Kafka", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("starting processor and gateway", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_start_can_be_stopped(state: Path, said: str, number: signal.Signals) -> None:
    with LocalRun(state) as run:
        run.until_said(said)
        began = time.monotonic()
        assert run.end(number) == 0
        assert time.monotonic() - began < 10
        assert run.left_running() == []


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
