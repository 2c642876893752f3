import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import BasicConstraints, load_pem_x509_certificate

from gateway.auth.ca import CertificateAuthority
from service.config.settings import Secret
from tobogganing.devstack.secrets import MAKERS, provide_secrets, provide_signing_keys


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "secrets"


def test_secrets_are_readable_by_their_owner_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        sources = provide_secrets(folder, {})
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {source.name: source.file for source in sources} == {
        name: folder / name for name in ("METRICS_TOKEN", "ADMIN_TOKEN", "CA_PEM")
    }
    assert {mode(file) for file in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == len(MAKERS)


def test_tokens_differ_and_are_long(folder: Path) -> None:
    provide_secrets(folder, {})
    admin, metrics = (folder / name for name in ("ADMIN_TOKEN", "METRICS_TOKEN"))
    assert admin.read_text() != metrics.read_text()
    assert min(len(admin.read_text()), len(metrics.read_text())) >= 43


def test_a_first_signing_key_is_readable_by_its_owner_only(folder: Path) -> None:
    keys = provide_signing_keys(folder, {})
    (file,) = keys.iterdir()
    assert (mode(keys), mode(file)) == (0o700, 0o600)
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 2048
    before = file.read_bytes()
    assert provide_signing_keys(folder, {}) == keys
    assert [each.read_bytes() for each in keys.iterdir()] == [before]


def test_a_folder_that_the_environment_names_gets_the_key(folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "elsewhere"
    assert provide_signing_keys(folder, {"SIGNING_KEYS_DIR": str(named)}) == named
    assert len(list(named.glob("*.pem"))) == 1
    assert not folder.exists()


def test_existing_secrets_are_kept(folder: Path) -> None:
    provide_secrets(folder, {})
    before = {file.name: file.read_text() for file in folder.iterdir()}
    provide_secrets(folder, {})
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_the_environment_has_precedence(folder: Path, tmp_path: Path) -> None:
    environ = {"METRICS_TOKEN": "mine", "ADMIN_TOKEN_FILE": str(tmp_path / "admin")}
    sources = {source.name: source.file for source in provide_secrets(folder, environ)}
    assert sources["METRICS_TOKEN"] is None
    assert sources["ADMIN_TOKEN"] == tmp_path / "admin"
    assert {file.name for file in folder.iterdir()} == {"CA_PEM"}


def test_the_ca_signs_nodes_certificates_only(folder: Path) -> None:
    provide_secrets(folder, {})
    pem = (folder / "CA_PEM").read_text()
    now = datetime.now(UTC)
    CertificateAuthority(Secret(pem), timedelta(days=90), now).check_validity(
        now + timedelta(days=3650)
    )
    certificate = load_pem_x509_certificate(pem.encode())
    constraints = certificate.extensions.get_extension_for_class(BasicConstraints)
    assert constraints.critical
    assert constraints.value.path_length == 0


def test_several_tokens_are_detected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("new\nold\n")
    environ = {"ADMIN_TOKEN": "new,old", "METRICS_TOKEN_FILE": str(tmp_path / "metrics")}
    sources = {source.name: source.several for source in provide_secrets(folder, environ)}
    assert sources["ADMIN_TOKEN"]
    assert sources["METRICS_TOKEN"]
    assert not any(source.several for source in provide_secrets(folder, {}))
    environ = {"METRICS_TOKEN_FILE": str(tmp_path / "none")}
    assert not any(source.several for source in provide_secrets(folder, environ))


def test_an_empty_variable_counts_as_unset(folder: Path) -> None:
    sources = provide_secrets(folder, {"METRICS_TOKEN": "", "ADMIN_TOKEN_FILE": ""})
    assert all(source.file == folder / source.name for source in sources)


def test_a_part_file_is_not_a_secret(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "ADMIN_TOKEN.part").write_text("half")
    provide_secrets(folder, {})
    assert (folder / "ADMIN_TOKEN").read_text() != "half"
    assert not (folder / "ADMIN_TOKEN.part").exists()
