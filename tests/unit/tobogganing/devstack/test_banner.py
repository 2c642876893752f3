import subprocess
from pathlib import Path

import pytest

from tobogganing.devstack.banner import banner, value_of
from tobogganing.devstack.run_config import read_run_config
from tobogganing.devstack.secrets import SecretSource

CONFIG = read_run_config({"STATE_DIR": "/tmp/a state"})


def sources(file: Path | None) -> list[SecretSource]:
    return [SecretSource(name, file) for name in ("METRICS_TOKEN", "ADMIN_TOKEN")]


@pytest.mark.parametrize("name", ["token", "with space", "it's", 'a"b', "$HOME", "naïve"])
def test_a_secret_in_any_file_is_read_by_the_shell(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("secret")
    command = f'printf %s "Bearer {value_of(SecretSource("ADMIN_TOKEN", file))}"'
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert shown.stdout == "Bearer secret"


@pytest.mark.parametrize(
    "held", ["first,second", "first second\n", "\n first\n\tsecond\n", "first, second"]
)
def test_of_several_tokens_the_first_is_sent(tmp_path: Path, held: str) -> None:
    file = tmp_path / "token"
    file.write_text(held)
    for source in (
        SecretSource("ADMIN_TOKEN", file, True),
        SecretSource("ADMIN_TOKEN", None, True),
    ):
        command = f'printf %s "Bearer {value_of(source)}"'
        shown = subprocess.run(
            ["sh", "-c", command], capture_output=True, check=True, env={"ADMIN_TOKEN": held}
        )
        assert shown.stdout == b"Bearer first"


def test_no_secret_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret-value")
    text = banner(CONFIG, sources(file), "127.0.0.1:9092")
    assert "secret-value" not in text
    assert str(file) in text


def test_the_commands_are_valid_for_sh() -> None:
    text = banner(CONFIG, sources(None), "127.0.0.1:9092")
    block = text[text.index("CLIENT_ID=") : text.index("\n\nCtrl-C")]
    assert "${ADMIN_TOKEN}" in block
    subprocess.run(["sh", "-n", "-c", block], check=True)
