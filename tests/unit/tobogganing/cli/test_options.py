"""The options of the address."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tobogganing.cli.main import cli
from tobogganing.devstack.local_run import lock_file, published_urls
from tobogganing.devstack.locks import acquire


def test_a_url_without_a_scheme_is_a_wrong_command() -> None:
    for words in (["--url", "8471", "status"], ["status", "--url", "127.0.0.1:8471"]):
        ended = CliRunner().invoke(cli, words)
        assert ended.exit_code == 2
        assert "has no scheme: write http://127.0.0.1:8471" in ended.output
    ended = CliRunner(env={"TOBOGGANING_URL": "8471"}).invoke(cli, ["status"])
    assert "has no scheme" in ended.output


def test_the_default_of_a_url_has_no_second_brackets() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["status", "--help"]).output.split())
    assert "Default: the local run's." in shown
    assert "(the local" not in shown


def test_a_run_that_has_stopped_is_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("METRICS_TOKEN", "ADMIN_TOKEN", "TOBOGGANING_URL", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "bootstrap-servers").write_text("127.0.0.1:1\n")
    for words in (["status"], ["clients", "list"], ["status", "--url", "http://localhost:8000"]):
        ended = CliRunner().invoke(cli, words)
        assert ended.exit_code == 2
        assert ended.output.startswith(
            "Error: the local run does not run: start it with `make run`"
        )
    ended = CliRunner().invoke(cli, ["audit"])
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: the local run does not run: start it with `make run`")


def test_localhost_gets_the_token_at_the_address_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.delenv("METRICS_TOKEN", raising=False)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "METRICS_TOKEN").write_text("local\n")
    with (
        acquire(lock_file(tmp_path), wait=False),
        published_urls(tmp_path, ["http://127.0.0.1:9"]),
    ):
        ended = CliRunner().invoke(cli, ["status", "--url", "http://localhost:9"])
    assert "no gateway responds at http://127.0.0.1:9 (Connection refused)" in ended.output
