import subprocess
import sys

import pytest
from click.testing import CliRunner

from tobogganing.cli import main

COMMANDS = {"run", "secrets", "serve", "gateway", "processor", "exporter", "topics", "simulate"}


def test_every_command_is_there() -> None:
    assert set(main.commands) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert main.commands[command].help


def test_the_command_line_itself_imports_no_service() -> None:
    script = (
        "import sys, tobogganing.cli;"
        "print([m for m in ('faust', 'aiokafka', 'starlette', 'aiohttp') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout == b"[]\n"


def test_what_a_user_can_mend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "none")
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 1
    assert result.output == "Error: PORT=none is not a port: choose a number from 1 to 65535\n"
