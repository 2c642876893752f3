"""Drills of the documentation, command by command, next to a real run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.local_run import LocalRun, wait_for
from tests.e2e.test_documents import blocks, shell


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


def test_an_operator_restores_after_each_loss(tmp_path: Path) -> None:
    """docs/backup.md: the registry's topic is lost; then all of `.state` is."""
    backup, _, files, registry, everything = blocks("backup.md")
    state = tmp_path / ".state"
    with LocalRun(state) as run:
        run.until_ready()
        shell(run, "tobogganing clients add Anna --type native --id anna")
        run.paste()
        shell(run, backup)
        shell(run, files)
        shell(run, "tobogganing clients add Later --type native --id later")
        assert (tmp_path / "secrets.tar.gz").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "backup.ndjson.gz").stat().st_mode & 0o777 == 0o600
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
        assert "anna" in shown
        assert "later" not in shown, "registered since the backup"
        assert run.end(signal.SIGTERM) == 0

    *prepare, start = everything.splitlines()
    assert start == "tobogganing run --restore backup.ndjson.gz"
    shell(run, "\n".join(prepare))
    with LocalRun(state, run.port, restore=tmp_path / "backup.ndjson.gz") as run:
        run.until_ready()
        assert run.secret("ADMIN_TOKEN") == secret
        assert "anna" in _shown(run)
        token = run.secret("METRICS_TOKEN")
        page = shell(run, f'curl -fsS -H "Authorization: Bearer {token}" {run.url}/metrics')
        assert "test-client-" in page, "the newest values are back before any report"
        assert run.end(signal.SIGTERM) == 0
    with LocalRun(state, run.port, restore=tmp_path / "backup.ndjson.gz") as run:
        assert run.process.wait(120) == 1
        run.until_said("is for an empty STATE_DIR")


def test_an_operator_finds_a_silent_client_dead_letters_and_the_audit(tmp_path: Path) -> None:
    """docs/cli.md: every command that only looks at the topics."""
    with LocalRun(tmp_path / ".state") as run:
        run.until_ready()
        shell(run, "tobogganing clients add Anna --type native --id anna")
        (topics,) = [block for block in blocks("cli.md") if "topics describe" in block]
        said = shell(run, topics)
        assert '"key": "client:anna"' in said
        assert "all settings are as required" in said
        wait_for(lambda: "anna" in shell(run, "tobogganing clients list"), "the client")
        assert run.end(signal.SIGTERM) == 0
