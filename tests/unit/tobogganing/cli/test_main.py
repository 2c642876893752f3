import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tobogganing.cli.main import cli

COMMANDS = {
    "run": (),
    "secrets": (),
    "serve": (),
    "gateway": (),
    "processor": (),
    "exporter": (),
    "topics": ("describe", "repair", "delete", "read"),
    "kafka": ("start",),
    "simulate": (),
    "clients": ("add", "list", "show", "rotate", "remove"),
    "headends": ("add", "list", "show", "rotate", "remove"),
    "clusters": ("add", "list", "show", "remove"),
    "relays": ("add", "list", "show", "rotate", "remove"),
    "enrolments": ("create", "list", "show", "revoke"),
    "tokens": ("issue", "revoke"),
    "keys": ("list", "rotate", "remove"),
    "certs": ("issue", "ca"),
    "fleet": ("import", "export", "remove"),
    "status": (),
    "ledger": (),
    "history": ("show", "begin"),
    "dead-letters": ("list", "show", "replay", "purge"),
    "audit": (),
    "anomalies": (),
    "backup": (),
    "restore": (),
    "plan": (),
}
WITHOUT_JSON = (["kafka", "start"], ["topics", "read"])
"""A service, and a command whose output is JSON in any case."""
CALLS = [
    [command, *sub] for command, subs in COMMANDS.items() for sub in ([], *([s] for s in subs))
]


def test_every_command_exists() -> None:
    found = {
        name: set(command.commands) if isinstance(command, click.Group) else set()
        for name, command in cli.commands.items()
    }
    assert found == {name: set(subs) for name, subs in COMMANDS.items()}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_command_has_help(call: list[str]) -> None:
    result = CliRunner().invoke(cli, [*call, "--help"])
    assert result.exit_code == 0
    command: click.Command = cli
    for name in call:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    assert "--json" in result.output or len(call) == 1 or call in WITHOUT_JSON


def test_the_command_line_itself_imports_no_service() -> None:
    script = (
        "import sys, tobogganing.cli.main;"
        "print([m for m in ('faust', 'aiokafka', 'starlette', 'aiohttp') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout == b"[]\n"


def test_an_error_that_the_user_can_fix_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "none")
    result = CliRunner().invoke(cli, ["run"])
    assert result.exit_code == 2
    assert result.output == "Error: PORT=none is not a port: choose a number from 1 to 65535\n"
