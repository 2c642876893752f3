"""Drills of the documentation, command by command, next to a real run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_run import LocalRun, wait_for
from tests.e2e.test_documents import DOCS, blocks, shell
from tests.integration.test_run_disk import fill, mounted

on_one_run = pytest.mark.xdist_group("drills")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    """One run for the drills after which it still works."""
    with LocalRun(tmp_path_factory.mktemp("drills") / ".state") as run:
        run.until_ready()
        yield run
        if run.process.poll() is None:
            assert run.end(signal.SIGTERM) == 0


def _started(run: LocalRun, *words: str) -> subprocess.Popen[str]:
    """A command that runs until it is stopped, as in the first terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "tobogganing", *words],
        cwd=run.state.parent,
        env=os.environ | {"STATE_DIR": str(run.state), "PORT": str(run.port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}: {said}")


def _shown(run: LocalRun) -> str:
    return shell(run, "tobogganing clients list")


def _succeeds(run: LocalRun, commands: str) -> bool:
    try:
        shell(run, commands)
    except AssertionError:
        return False
    return True


def _drill(title: str) -> list[str]:
    """The blocks of a section of docs/drills.md."""
    section = (DOCS / "drills.md").read_text("utf-8").split(f"\n## {title}\n")[1]
    section = section.partition("\n## ")[0]
    return [part.partition("```")[0] for part in section.split("```sh\n")[1:]]


def test_every_section_of_the_drills_is_walked_through() -> None:
    text = (DOCS / "drills.md").read_text("utf-8")
    here = Path(__file__).read_text("utf-8")
    for title in [line[3:] for line in text.splitlines() if line.startswith("## ")]:
        assert f'_drill("{title}")' in here


@on_one_run
def test_an_operator_scales_by_hand(run: LocalRun) -> None:
    start, use, stop = _drill("Scale by hand")
    partitions = (
        'curl -fsS -H "Authorization: Bearer $(cat .state/secrets/METRICS_TOKEN)" '
        "http://127.0.0.1:18102/metrics | grep ^tobogganing_processor_partitions\n"
    )
    said = shell(run, start + use + partitions + stop, patience=300)
    assert "tobogganing_processor_partitions 2.0" in said
    assert "second" in _shown(run)
    wait_for(lambda: run.shell(f"curl -fsS {run.url}/-/ready") != "", "the first is ready")
    assert run.paste(), "submissions are processed by the first processor alone"


@on_one_run
def test_an_operator_finds_a_silent_client_dead_letters_and_the_audit(run: LocalRun) -> None:
    """Every command of docs/cli.md that only looks at the topics; then the drill."""
    shell(run, "tobogganing clients add Anna --type native --id anna")
    (topics,) = [block for block in blocks("cli.md") if "topics describe" in block]
    said = shell(run, topics)
    assert '"key": "client:anna"' in said
    assert "all settings are as required" in said
    wait_for(lambda: "anna" in _shown(run), "the client")

    shell(run, "tobogganing clients rotate anna")
    known, reasons = _drill("Find a silent client")
    said = shell(run, known)
    assert "Anna" in said
    assert "nothing in the last 24 hours" in said
    said = shell(run, reasons)
    assert said.count("client:anna") >= 2, "the registration and the new key"
    assert "no anomaly" in said


@on_one_run
def test_an_operator_sees_that_kafka_is_gone_and_back(run: LocalRun) -> None:
    gone, back = _drill("Kafka is gone")
    kafka = run.part("kafka")
    assert kafka
    os.kill(kafka, signal.SIGSTOP)  # the run does not replace a broker that hangs
    run.paste()  # an idle gateway sends a record only once a minute
    wait_for(lambda: "Not ready" in shell(run, gone), "it is said", 150)
    os.kill(kafka, signal.SIGCONT)
    run.kill("kafka")
    run.until_said("kafka died (signal SIGKILL): starting it again now")
    # The gateway may not have noticed its death yet, so its readiness says nothing.
    wait_for(lambda: _succeeds(run, back), "it is back")
    wait_for(lambda: '"ready"' in run.shell(f"curl -fsS {run.url}/-/ready"), "it goes on")
    assert "tobogganing.submissions" in shell(run, back)


@on_one_run
def test_an_operator_restores_after_each_loss(run: LocalRun) -> None:
    """docs/backup.md: the registry's topic is lost; then all of `.state` is. The last of the
    drills on one run, which it ends."""
    backup, _, files, registry, everything = blocks("backup.md")
    state, folder = run.state, run.state.parent
    shell(run, "tobogganing clients add Early --type native --id early")
    run.paste()
    shell(run, backup)
    shell(run, files)
    shell(run, "tobogganing clients add Later --type native --id later")
    assert (folder / "secrets.tar.gz").stat().st_mode & 0o777 == 0o600
    assert (folder / "backup.ndjson.gz").stat().st_mode & 0o777 == 0o600
    secret = run.secret("ADMIN_TOKEN")
    assert run.end(signal.SIGTERM) == 0

    with _started(run, "kafka", "start") as kafka:
        try:
            _until(kafka, "Kafka is ready at")
            described = shell(run, "tobogganing topics describe")
            assert "tobogganing.registry" in described
            said = shell(run, registry)
            assert "deleted tobogganing.registry" in said
            assert "registry: " in said
        finally:
            kafka.send_signal(signal.SIGTERM)
            assert kafka.wait(30) == 0
    with LocalRun(state, run.port) as run:
        run.until_ready()
        shown = _shown(run)
        assert "early" in shown
        assert "later" not in shown, "registered since the backup"
        assert run.end(signal.SIGTERM) == 0

    *prepare, start = everything.splitlines()
    assert start == "tobogganing run --restore backup.ndjson.gz"
    shell(run, "\n".join(prepare))
    with LocalRun(state, run.port, restore=folder / "backup.ndjson.gz") as run:
        run.until_ready()
        assert run.secret("ADMIN_TOKEN") == secret
        assert "early" in _shown(run)
        token = run.secret("METRICS_TOKEN")
        page = shell(run, f'curl -fsS -H "Authorization: Bearer {token}" {run.url}/metrics')
        assert "test-client-" in page, "the newest values are back before any report"
        assert run.end(signal.SIGTERM) == 0
    with LocalRun(state, run.port, restore=folder / "backup.ndjson.gz") as run:
        assert run.process.wait(120) == 1
        run.until_said("is for an empty STATE_DIR")


def test_an_operator_frees_a_full_disk(tmp_path: Path) -> None:
    (commands,) = _drill("A full disk")
    with mounted(tmp_path / "disk", "size=300m") as disk, LocalRun(disk / ".state") as run:
        run.until_ready()
        fill(disk)
        wait_for(lambda: "is full: free some space" in shell(run, commands), "the reason")
        said = shell(run, commands)
        assert '"waiting_for":["disk space (the disk of' in said
        assert "100%" in said
        (disk / "fill").unlink()
        wait_for(lambda: '"ready"' in run.shell(f"curl -fsS {run.url}/-/ready"), "it goes on")
        assert "tobogganing_client_bytes_sent" in run.paste()
        assert run.end(signal.SIGTERM) == 0
