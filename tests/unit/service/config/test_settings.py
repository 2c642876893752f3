"""Settings: read from the environment, all errors at once, no secret shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from gateway.settings import GatewaySettings
from service.config.settings import HttpSettings, SettingsError, load_settings

GOOD = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "METRICS_TOKEN": "m-secret-of-the-tests",
    "ADMIN_TOKEN": "a-secret-of-the-tests",
    "SIGNING_KEYS_DIR": "keys",
}


def test_defaults() -> None:
    settings = load_settings(GatewaySettings, GOOD)
    assert settings.port == 8000
    assert settings.answer_within_seconds == 8
    assert settings.max_body_bytes == 65_536
    assert settings.kafka_topic_prefix == "tobogganing."
    assert settings.admin_token.current() == ("a-secret-of-the-tests",)


def test_all_errors_are_reported_at_once() -> None:
    environ = {"KAFKA_PARTITIONS": "few", "METRICS_TOKEN": "", "ANSWER_WITHIN_SECONDS": "10"}
    with pytest.raises(SettingsError) as error:
        load_settings(GatewaySettings, environ)
    lines = str(error.value).splitlines()
    named = {line.split()[0].split("=")[0] for line in lines}
    assert named == {
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_PARTITIONS",
        "METRICS_TOKEN",
        "ADMIN_TOKEN",
        "SIGNING_KEYS_DIR",
        "ANSWER_WITHIN_SECONDS",
    }


@pytest.mark.parametrize("value", ["10", "0", "-1", "nan", "inf", "x", "0.5"])
def test_the_deadline_is_below_the_clients_timeout(value: str) -> None:
    with pytest.raises(SettingsError, match="ANSWER_WITHIN_SECONDS"):
        load_settings(GatewaySettings, GOOD | {"ANSWER_WITHIN_SECONDS": value})


def test_no_secret_is_shown() -> None:
    settings = load_settings(GatewaySettings, GOOD)
    for shown in (repr(settings), str(settings), f"{settings.admin_token}"):
        assert "-secret" not in shown


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token-from-a-file\n")
    environ = {key: value for key, value in GOOD.items() if key != "ADMIN_TOKEN"}
    settings = load_settings(GatewaySettings, environ | {"ADMIN_TOKEN_FILE": str(file)})
    assert settings.admin_token.current() == ("token-from-a-file",)
    with pytest.raises(SettingsError, match="both set"):
        load_settings(GatewaySettings, GOOD | {"ADMIN_TOKEN_FILE": str(file)})
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        load_settings(GatewaySettings, environ | {"ADMIN_TOKEN_FILE": str(file)})
    with pytest.raises(SettingsError, match="ADMIN_TOKEN_FILE"):
        load_settings(GatewaySettings, environ | {"ADMIN_TOKEN_FILE": str(tmp_path / "none")})


def test_constraints_are_checked() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bounded:
        size: Annotated[int, Meta(ge=1)] = 5

    assert load_settings(Bounded, {"SIZE": "7"}).size == 7
    with pytest.raises(SettingsError, match="SIZE"):
        load_settings(Bounded, {"SIZE": "0"})


def test_only_secrets_may_be_in_files(tmp_path: Path) -> None:
    environ = {"METRICS_TOKEN": "x" * 16, "PORT_FILE": str(tmp_path / "none")}
    assert load_settings(HttpSettings, environ).port == 8000
    assert load_settings(HttpSettings, environ).metrics_token.current() == ("x" * 16,)


def test_idle_connections_outlive_those_of_proxies() -> None:
    token = {"METRICS_TOKEN": "x" * 16}
    assert load_settings(HttpSettings, token).keep_alive_seconds == 75
    with pytest.raises(SettingsError, match="KEEP_ALIVE_SECONDS"):
        load_settings(HttpSettings, token | {"KEEP_ALIVE_SECONDS": "0"})


@pytest.mark.parametrize(
    ("linger", "within", "is_valid"),
    [("0", "1", True), ("249", "1", True), ("250", "1", False), ("2000", "8", False)],
)
def test_the_linger_is_below_a_quarter_of_the_deadline(
    linger: str, within: str, is_valid: bool
) -> None:
    environ = GOOD | {"LINGER_MS": linger, "ANSWER_WITHIN_SECONDS": within}
    if is_valid:
        assert load_settings(GatewaySettings, environ).linger_seconds == int(linger) / 1000
    else:
        with pytest.raises(SettingsError, match=f"LINGER_MS={linger} must be below a quarter of"):
            load_settings(GatewaySettings, environ)


def test_a_negative_linger_is_refused() -> None:
    with pytest.raises(SettingsError, match="LINGER_MS"):
        load_settings(GatewaySettings, GOOD | {"LINGER_MS": "-1"})
