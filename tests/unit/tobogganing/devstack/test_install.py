from dataclasses import replace
from pathlib import Path

import pytest

from tobogganing.devstack.install import CdsArchive, archive_path
from tobogganing.devstack.java import Java

JAVA = Java(Path("/java"), 17, 'version "17.0.1"')
JARS = [Path("/cache/a.jar"), Path("/cache/b.jar")]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_path(tmp_path, JAVA, JARS)


def record(archive: Path, cds_archive: CdsArchive) -> None:
    """Write the archive that a JVM with these flags would write."""
    (flag,) = cds_archive.flags()
    name, _, file = flag.partition("=")
    assert name == "-XX:ArchiveClassesAtExit"
    assert Path(file) != archive
    Path(file).write_text("classes")


def test_another_java_or_class_path_has_another_archive(tmp_path: Path, archive: Path) -> None:
    newer = replace(JAVA, version='version "17.0.2"')
    others = [archive_path(tmp_path, newer, JARS), archive_path(tmp_path, JAVA, JARS[::-1])]
    assert archive == archive_path(tmp_path, JAVA, JARS)
    assert len({archive, *others}) == 3


def test_the_first_broker_records_the_archive_and_the_next_uses_it(archive: Path) -> None:
    first = CdsArchive(archive)
    record(archive, first)
    first.ended(143)
    assert CdsArchive(archive).flags() == [f"-XX:SharedArchiveFile={archive}"]


def test_only_one_records_at_a_time(archive: Path) -> None:
    first, second = CdsArchive(archive), CdsArchive(archive)
    record(archive, first)
    assert second.flags() == []
    second.ended(143)
    first.ended(143)
    assert archive.read_text() == "classes"


@pytest.mark.parametrize("code", [-9, 1])
def test_an_archive_of_a_killed_jvm_is_not_used(archive: Path, code: int) -> None:
    cds_archive = CdsArchive(archive)
    record(archive, cds_archive)
    cds_archive.ended(code)
    assert not archive.exists()
    record(archive, CdsArchive(archive))
