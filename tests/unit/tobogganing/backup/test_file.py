"""A backup file is complete, or does not exist."""

import gzip
from pathlib import Path

import pytest

from tobogganing.backup.file import VERSION, Backup, BackupError, BackupWriter, Header

HEADER = Header(VERSION, 1_700_000_000_000, "a.", 4, 17, rows=True, drained=False)


def write(file: Path, entries: int = 3) -> None:
    with BackupWriter(file, HEADER) as writer:
        for number in range(entries):
            writer.record(b"client:%d" % number, b'{"version":1,"id":"\xc3\xa4"}')
            writer.row(b"client:%d" % number, b'{"version":1}')
        writer.end()


@pytest.mark.parametrize("name", ["backup.ndjson", "backup.ndjson.gz"])
def test_a_written_backup_can_be_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write(file)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert file.stat().st_mode & 0o777 == 0o600
    assert (file.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    backup = Backup(file)
    assert backup.header == HEADER
    for _ in range(2):
        assert [record.key for record in backup.records()] == ["client:0", "client:1", "client:2"]
    assert bytes(next(backup.records()).value) == b'{"version":1,"id":"\xc3\xa4"}'
    assert [bytes(row.value) for row in backup.rows()] == [b'{"version":1}'] * 3


def test_an_incomplete_backup_keeps_the_previous_file(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    write(file, 1)
    with pytest.raises(UnicodeDecodeError), BackupWriter(file, HEADER) as writer:
        writer.record(b"\xff", b"{}")
    assert [each.name for each in tmp_path.iterdir()] == ["backup"]
    assert Backup(file).footer.records == 1


def test_a_part_file_of_a_killed_backup_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "backup.part").write_text("half")
    write(tmp_path / "backup")
    assert Backup(tmp_path / "backup").footer.rows == 3


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_file_without_some_lines_is_refused(tmp_path: Path, lost: int) -> None:
    file = tmp_path / "backup"
    write(file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-lost]))
    with pytest.raises(BackupError, match="incomplete"):
        Backup(file)
    file.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(BackupError, match="incomplete"):
        Backup(file)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    for name in ("backup", "backup.gz"):
        file = tmp_path / name
        write(file)
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(BackupError):
            Backup(file)


def test_another_version_is_named(tmp_path: Path) -> None:
    file = tmp_path / "backup.gz"
    write(file)
    text = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(text.replace(b'"version":1', b'"version":9', 1)))
    with pytest.raises(BackupError, match="version 9"):
        Backup(file)
