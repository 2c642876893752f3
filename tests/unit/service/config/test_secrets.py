"""Tokens that change without a restart."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service.config import secrets
from service.config.secrets import (
    MAX_CREDENTIAL,
    MAX_SECRET,
    RELOAD_INTERVAL,
    ReloadableTokens,
    SecretError,
)
from service.config.settings import HttpSettings, SettingsError, load_settings
from service.http.bearer_auth import StaticTokenAuth
from service.metrics.requests import RequestMetrics

Fingerprint = Callable[[Path], tuple[int, ...] | None]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += RELOAD_INTERVAL


@pytest.fixture(autouse=True)
def short_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow short, readable tokens."""
    monkeypatch.setattr(secrets, "MIN_TOKEN", 1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("one\n")
    return file


@pytest.fixture
def tokens(file: Path, clock: Clock) -> ReloadableTokens:
    return ReloadableTokens(file.read_text(), file, clock)


def replace(file: Path, text: str) -> None:
    """Replace the file by another one, as a rotation should."""
    part = file.with_name("part")
    part.write_text(text)
    part.replace(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one", ("one",)),
        ("one,two", ("one", "two")),
        ("one, two", ("one", "two")),
        (" one\n\ttwo\r\n", ("one", "two")),
        (",one,,two,", ("one", "two")),
        ("x" * MAX_CREDENTIAL, ("x" * MAX_CREDENTIAL,)),
    ],
)
def test_tokens_are_separated_by_commas_or_white_space(
    text: str, expected: tuple[str, ...]
) -> None:
    assert ReloadableTokens(text).current() == expected


@pytest.mark.parametrize("text", ["", " ", ",", " ,\n, ", "one,töken", "a\0b", "x" * 4097])
def test_no_token_or_an_unsendable_token_is_refused(text: str) -> None:
    with pytest.raises(SecretError):
        ReloadableTokens(text)
    environ = {"METRICS_TOKEN": text or ","}
    with pytest.raises(SettingsError, match="METRICS_TOKEN") as refused:
        load_settings(HttpSettings, environ)
    assert "töken" not in str(refused.value)


def test_a_file_without_tokens_prevents_start_up(file: Path) -> None:
    replace(file, " ,\n")
    with pytest.raises(SettingsError, match=r"METRICS_TOKEN_FILE=.*token contains no token"):
        load_settings(HttpSettings, {"METRICS_TOKEN_FILE": str(file)})
    replace(file, "x" * (MAX_SECRET + 1))
    with pytest.raises(SettingsError, match=r"METRICS_TOKEN_FILE=.*token is larger than"):
        load_settings(HttpSettings, {"METRICS_TOKEN_FILE": str(file)})


def test_each_of_several_tokens_matches_and_nothing_else(
    tokens: ReloadableTokens, file: Path
) -> None:
    replace(file, "one,two")
    check = StaticTokenAuth(tokens, "admin", RequestMetrics(CollectorRegistry()))
    assert check.matches("one")
    assert check.matches("two")
    for other in (None, "", "one,two", "on", "onee", "three", "\udcff", "öne"):
        assert not check.matches(other)


def test_a_changed_file_is_reloaded(tokens: ReloadableTokens, file: Path, clock: Clock) -> None:
    assert tokens.current() == ("one",)
    for text, expected in (
        ("one two", ("one", "two")),
        ("two", ("two",)),
        ("two\n", ("two",)),
        ("six", ("six",)),  # same length as the previous one
    ):
        replace(file, text)
        clock.tick()
        assert tokens.current() == expected


def test_a_file_written_in_place_is_reloaded(
    tokens: ReloadableTokens, file: Path, clock: Clock
) -> None:
    assert tokens.current() == ("one",)
    file.write_text("two\n")
    later = file.stat().st_mtime_ns + 1
    os.utime(file, ns=(later, later))
    clock.tick()
    assert tokens.current() == ("two",)


def test_a_replaced_file_with_equal_size_and_time_is_reloaded(
    tokens: ReloadableTokens, file: Path, clock: Clock
) -> None:
    assert tokens.current() == ("one",)
    before = file.stat().st_mtime_ns
    replace(file, "two\n")
    os.utime(file, ns=(before, before))
    clock.tick()
    assert tokens.current() == ("two",)


def test_a_changed_symlink_is_followed(tmp_path: Path, clock: Clock) -> None:
    """As Kubernetes updates a mounted secret."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
    (tmp_path / "data").symlink_to("old")
    tokens = ReloadableTokens("old", tmp_path / "data" / "token", clock)
    assert tokens.current() == ("old",)
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(tmp_path / "data")
    clock.tick()
    assert tokens.current() == ("new",)


def test_a_file_is_checked_once_a_second_and_read_only_if_changed(
    tokens: ReloadableTokens, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def read(file: Path, original: Callable[[Path], str] = secrets.read_secret) -> str:
        looked.append("read")
        return original(file)

    def stat(file: Path, original: Fingerprint = secrets._fingerprint) -> tuple[int, ...] | None:
        looked.append("look")
        return original(file)

    monkeypatch.setattr(secrets, "read_secret", read)
    monkeypatch.setattr(secrets, "_fingerprint", stat)
    for _ in range(100):
        tokens.current()
    assert looked == ["look", "read"]
    replace(file, "two")
    clock.now += RELOAD_INTERVAL / 2
    assert tokens.current() == ("one",)
    clock.now += RELOAD_INTERVAL / 2
    assert tokens.current() == ("two",)
    clock.tick()
    tokens.current()
    assert looked == ["look", "read", "look", "read", "look"]


@pytest.mark.parametrize("fault", ["missing", "empty", "rubbish", "folder", "large"])
def test_an_invalid_file_keeps_the_last_tokens_and_is_logged_once(
    tokens: ReloadableTokens, file: Path, clock: Clock, fault: str
) -> None:
    replace(file, "first second")
    assert tokens.current() == ("first", "second")
    if fault == "empty":
        replace(file, "\n")
    elif fault == "rubbish":
        file.write_bytes(b"\xff\xfe")
    elif fault == "large":
        replace(file, "x" * (MAX_SECRET + 1))
    else:
        file.unlink()
        if fault == "folder":
            file.mkdir()
    with capture_logs() as logs:
        for _ in range(5):
            clock.tick()
            assert tokens.current() == ("first", "second")
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "first" not in str(logs)
    if fault == "folder":
        file.rmdir()
    with capture_logs() as logs:
        replace(file, "third")
        for _ in range(2):
            clock.tick()
            assert tokens.current() == ("third",)
    assert [(entry["event"], entry["tokens"]) for entry in logs] == [("tokens changed", 1)]
    assert "third" not in str(logs)


def test_a_restored_file_is_accepted_and_a_new_error_is_logged(
    tokens: ReloadableTokens, file: Path, clock: Clock
) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            file.rename(file.with_name("away"))
            clock.tick()
            assert tokens.current() == ("one",)
            file.with_name("away").rename(file)
            clock.tick()
            assert tokens.current() == ("one",)
    assert [entry["log_level"] for entry in logs] == ["error"] * 2


def test_a_pipe_is_read_only_at_start_up(tmp_path: Path, clock: Clock) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("from a pipe,old",))
    writer.start()
    settings = load_settings(HttpSettings, {"METRICS_TOKEN_FILE": str(pipe)})
    writer.join()
    assert settings.metrics_token.current() == ("from", "a", "pipe", "old")
    tokens: Any = settings.metrics_token
    tokens._check_at = 0.0
    assert settings.metrics_token.current() == ("from", "a", "pipe", "old")


def test_repr_shows_no_token(tokens: ReloadableTokens) -> None:
    for shown in (repr(tokens), str(tokens), f"{tokens}", repr([tokens])):
        assert "one" not in shown
    settings = load_settings(HttpSettings, {"METRICS_TOKEN": "very-secret"})
    assert "very-secret" not in repr(settings)


def test_a_short_token_is_refused_at_start_up_and_at_reload(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    strong, short = "a-token-of-the-tests", "fifteen-letters"
    for text in (short, f"{strong},{short}"):
        with pytest.raises(SettingsError, match="METRICS_TOKEN contains a token of 15 characters"):
            load_settings(HttpSettings, {"METRICS_TOKEN": text})
    replace(file, f"\ufeff{strong}\r\n")  # a byte order mark, as editors on Windows write it
    tokens = load_settings(HttpSettings, {"METRICS_TOKEN_FILE": str(file)}).metrics_token
    assert tokens.current() == (strong,)
    tokens = ReloadableTokens(strong, file, clock)
    replace(file, f"{strong},{short}")
    with capture_logs() as said:
        clock.tick()
        assert tokens.current() == (strong,)
    assert "15 characters" in said[0]["why"]
    assert short not in str(said)


def test_a_file_that_changes_to_a_token_of_the_other_kind_is_refused(
    tokens: ReloadableTokens, file: Path, clock: Clock
) -> None:
    other_file = file.with_name("other")
    other_file.write_text("two")
    other = ReloadableTokens("two", other_file, clock)
    tokens.exclude(other, "METRICS_TOKEN")
    other.exclude(tokens, "ADMIN_TOKEN")
    replace(file, "new,two")
    with capture_logs() as logs:
        for _ in range(3):
            clock.tick()
            assert (tokens.current(), other.current()) == (("one",), ("two",))
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert logs[0]["why"].startswith("contains a token of METRICS_TOKEN: replace one")
    assert "two" not in str(logs)
    # Both change to the same token: one of them wins.
    replace(other_file, "new")
    replace(file, "new")
    clock.tick()
    assert tokens.current() != other.current()
    # Once the other has left a token, this one may take it.
    replace(other_file, "three")
    replace(file, "two")
    clock.tick()
    assert (tokens.current(), other.current()) == (("two",), ("three",))
