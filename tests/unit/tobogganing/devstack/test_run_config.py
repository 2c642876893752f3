from pathlib import Path

import pytest

from tobogganing.devstack.run_config import CHECKOUT, read_run_config
from tobogganing.errors import LocalError


def test_by_default_it_is_in_the_checkout_on_port_8000(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_run_config({"PORT": "", "STATE_DIR": ""})
    assert config.state == CHECKOUT / ".state"
    assert config.url == "http://127.0.0.1:8000"
    assert config.bootstrap_servers is None


def test_the_environment_sets_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_run_config(
        {"STATE_DIR": "other", "PORT": "9000", "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092"}
    )
    assert config.state == tmp_path / "other"
    assert config.port == 9000
    assert config.bootstrap_servers == "kafka.example:9092"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
    ],
)
def test_the_url_is_reachable_from_this_machine(host: str, url: str) -> None:
    assert read_run_config({"HOST": host}).url == url


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8000.5", "²"])
def test_an_invalid_port_is_named(port: str) -> None:
    with pytest.raises(LocalError, match=f"PORT={port} is not a port"):
        read_run_config({"PORT": port})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_on_loopback_there_is_no_url_for_others(host: str) -> None:
    assert read_run_config({"HOST": host}).public_url is None


def test_the_url_for_others_names_no_wildcard() -> None:
    assert read_run_config({"HOST": "192.0.2.7"}).public_url == "http://192.0.2.7:8000"
    public = read_run_config({"HOST": "0.0.0.0", "TLS_CERTIFICATE": "edge.pem"}).public_url
    assert public is None or (public.startswith("https://") and "0.0.0.0" not in public)
