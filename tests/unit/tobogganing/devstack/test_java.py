from pathlib import Path

import pytest

from tobogganing.devstack.java import find_java, parse_major, probe
from tobogganing.errors import LocalError


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('openjdk version "11.0.2" 2019-01-15', 11),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_versions_are_read(text: str, major: int | None) -> None:
    assert parse_major(text) == major


def fake_java(home: Path, version: str, status: int = 0) -> Path:
    """The JAVA_HOME of a program that prints `version` for `-version`."""
    path = home / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {status}\n")
    path.chmod(0o755)
    return home


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "home", "21.0.1")
    other = fake_java(tmp_path / "path", "17.0.1")
    environ = {"JAVA_HOME": str(home), "PATH": f"{other}/bin"}
    assert find_java(tmp_path, environ).major == 21


@pytest.mark.parametrize("home", ["", "missing", "old", "broken"])
def test_an_unusable_java_home_is_skipped(tmp_path: Path, home: str) -> None:
    fake_java(tmp_path / "old", "11.0.2")
    fake_java(tmp_path / "broken", "21.0.1", status=1)
    good = fake_java(tmp_path / "good", "17.0.1")
    environ = {"JAVA_HOME": home and str(tmp_path / home), "PATH": f"{good}/bin"}
    found = find_java(tmp_path, environ)
    assert (found.major, found.path) == (17, good / "bin" / "java")


def test_an_old_system_java_is_an_error_without_alternatives(tmp_path: Path) -> None:
    old = fake_java(tmp_path, "16.0.2")
    with pytest.raises(LocalError, match="no Java 17 or newer"):
        find_java(tmp_path, {"PATH": f"{old}/bin", "TOBOGGANING_JAVA": "system"})


def test_an_unknown_mode_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="must be auto, system or bundled"):
        find_java(tmp_path, {"TOBOGGANING_JAVA": "yes"})


def test_an_unusable_java_is_none(tmp_path: Path) -> None:
    assert probe(tmp_path) is None
    assert probe(tmp_path / "missing") is None
