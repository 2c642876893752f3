"""`tobogganing secrets`: files for separate services."""

import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tobogganing.cli.main import cli
from tobogganing.devstack.secrets import write_secrets
from tobogganing.errors import LocalError

TOKENS = {"METRICS_TOKEN": "scrape-me-with-this", "ADMIN_TOKEN": "register-with-this"}

NEW, OLD = "new" * 8, "old" * 8


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_secrets_of_the_environment_are_not_stored(tmp_path: Path) -> None:
    write_secrets(tmp_path / "secrets", None, environ=TOKENS)
    assert {file.name for file in (tmp_path / "secrets").iterdir()} == {"signing-keys", "CA_PEM"}


def test_signing_key_and_ca_are_created_once(tmp_path: Path) -> None:
    write_secrets(tmp_path, None, environ=TOKENS)
    made = {file: file.read_text() for file in tmp_path.glob("**/*") if file.is_file()}
    assert len(made) == 2
    write_secrets(tmp_path, None, environ=TOKENS)
    assert {file: file.read_text() for file in tmp_path.glob("**/*") if file.is_file()} == made


def test_the_scraper_gets_the_current_token(tmp_path: Path) -> None:
    file = tmp_path / "metrics-token"
    write_secrets(tmp_path / "secrets", file, environ=TOKENS)
    assert file.read_text() == TOKENS["METRICS_TOKEN"]
    write_secrets(tmp_path / "secrets", file, environ=TOKENS | {"METRICS_TOKEN": "changed" * 3})
    assert file.read_text() == "changed" * 3
    write_secrets(tmp_path / "secrets", file, environ=TOKENS | {"METRICS_TOKEN": f"{NEW}, {OLD}"})
    assert file.read_text() == NEW
    with pytest.raises(LocalError, match="METRICS_TOKEN contains no token"):
        write_secrets(tmp_path / "secrets", file, environ=TOKENS | {"METRICS_TOKEN": " , "})


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ({"ADMIN_TOKEN": "short"}, "ADMIN_TOKEN contains a token of 5 characters"),
        ({"METRICS_TOKEN": TOKENS["ADMIN_TOKEN"]}, "are the same"),
    ],
)
def test_weak_tokens_are_refused(tmp_path: Path, other: dict[str, str], fault: str) -> None:
    with pytest.raises(LocalError, match=fault):
        write_secrets(tmp_path / "secrets", tmp_path / "token", environ=TOKENS | other)
    assert not (tmp_path / "token").exists()


def test_the_scraper_gets_a_created_token(tmp_path: Path) -> None:
    file = tmp_path / "metrics-token"
    write_secrets(tmp_path / "secrets", file, environ={})
    assert file.read_text() == (tmp_path / "secrets" / "METRICS_TOKEN").read_text()


@pytest.mark.usefixtures("closed_umask")
def test_only_the_scrapers_file_is_group_readable(tmp_path: Path) -> None:
    file = tmp_path / "metrics-token"
    write_secrets(tmp_path, file, environ=TOKENS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (key,) = (tmp_path / "signing-keys").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_impossible_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match=r"file/secrets"):
        write_secrets(tmp_path / "file" / "secrets", None, environ=TOKENS)


def test_an_error_of_the_command_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ["secrets", "--folder", str(tmp_path / "file" / "secrets")]
    result = CliRunner().invoke(cli, arguments, env=TOKENS)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1


def test_the_edges_certificate_is_created_once_and_group_readable(tmp_path: Path) -> None:
    file = tmp_path / "edge.pem"
    write_secrets(tmp_path / "secrets", None, file, environ=TOKENS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.write_text("the operator's own", encoding="ascii")
    write_secrets(tmp_path / "secrets", None, file, environ=TOKENS)
    assert file.read_text(encoding="ascii") == "the operator's own"


def test_the_edge_gets_the_cas_certificate_without_its_key(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    write_secrets(tmp_path / "secrets", None, None, file, environ=TOKENS)
    assert "PRIVATE KEY" in (tmp_path / "secrets" / "CA_PEM").read_text()
    assert file.read_text().count("-----BEGIN") == 1
    assert file.read_text() in (tmp_path / "secrets" / "CA_PEM").read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(LocalError, match="CA_PEM contains no certificate"):
        write_secrets(tmp_path / "x", None, None, file, environ=TOKENS | {"CA_PEM": "rubbish"})
