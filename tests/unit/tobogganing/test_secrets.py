import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tobogganing.local.secrets import MAKERS, provide_secrets


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "secrets"


def test_all_are_made_for_their_owner_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        sources = provide_secrets(folder, {})
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {source.name: source.file for source in sources} == {
        name: folder / name for name in ("METRICS_TOKEN", "ADMIN_TOKEN", "SIGNING_KEY")
    }
    assert {mode(file) for file in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == len(MAKERS)


def test_tokens_differ_and_are_long_and_the_key_is_rsa(folder: Path) -> None:
    provide_secrets(folder, {})
    admin, metrics = (folder / name for name in ("ADMIN_TOKEN", "METRICS_TOKEN"))
    assert admin.read_text() != metrics.read_text()
    assert min(len(admin.read_text()), len(metrics.read_text())) >= 43
    key = load_pem_private_key((folder / "SIGNING_KEY").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 2048


def test_they_are_kept(folder: Path) -> None:
    provide_secrets(folder, {})
    before = {file.name: file.read_text() for file in folder.iterdir()}
    provide_secrets(folder, {})
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_the_environment_wins(folder: Path, tmp_path: Path) -> None:
    environ = {"METRICS_TOKEN": "mine", "ADMIN_TOKEN_FILE": str(tmp_path / "admin")}
    sources = {source.name: source.file for source in provide_secrets(folder, environ)}
    assert sources["METRICS_TOKEN"] is None
    assert sources["ADMIN_TOKEN"] == tmp_path / "admin"
    assert [file.name for file in folder.iterdir()] == ["SIGNING_KEY"]


def test_an_empty_variable_is_none(folder: Path) -> None:
    sources = provide_secrets(folder, {"METRICS_TOKEN": "", "ADMIN_TOKEN_FILE": ""})
    assert all(source.file == folder / source.name for source in sources)


def test_what_an_interrupted_start_left_is_no_secret(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "ADMIN_TOKEN.part").write_text("half")
    provide_secrets(folder, {})
    assert (folder / "ADMIN_TOKEN").read_text() != "half"
    assert not (folder / "ADMIN_TOKEN.part").exists()
