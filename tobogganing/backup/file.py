"""The backup file: NDJSON with a header, entries and a footer; compressed for `.gz`.

The file gets its name when it is complete. Only its owner can read it: it contains no keys, only
their hashes, but it names every client.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import msgspec

from contract.decoding import DECODE_ERRORS

VERSION = 1


class BackupError(ValueError):
    """The file is not a complete backup; the text says why."""


class Header(msgspec.Struct, frozen=True, tag_field="is", tag="backup"):
    """The source of a backup; `taken_at` is in milliseconds since the epoch.

    `registry_end` is the end offset of the registry. `rows` is whether the backup has rows,
    `drained` whether they include every accepted submission.
    """

    version: int
    taken_at: int
    prefix: str
    partitions: int
    registry_end: int
    rows: bool
    drained: bool


class RecordEntry(msgspec.Struct, frozen=True, tag_field="is", tag="record"):
    """A registry record, encoded as in its topic, with its incarnation."""

    key: str
    value: msgspec.Raw


class RowEntry(msgspec.Struct, frozen=True, tag_field="is", tag="row"):
    """A row of `entity-state`, encoded as in its topic."""

    key: str
    value: msgspec.Raw


class Footer(msgspec.Struct, frozen=True, tag_field="is", tag="end"):
    """The numbers of entries; without it the file is incomplete."""

    records: int
    rows: int


Line = Header | RecordEntry | RowEntry | Footer

_DAMAGE = (*DECODE_ERRORS, EOFError, gzip.BadGzipFile, zlib.error)
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_Entry = TypeVar("_Entry", RecordEntry, RowEntry)


class BackupWriter:
    """Writes a backup; a context manager. Without `end` no file remains."""

    def __init__(self, file: Path, header: Header) -> None:
        self._file = file
        self._part = file.with_name(f"{file.name}.part")
        self._header = header
        self._counts = {RecordEntry: 0, RowEntry: 0}

    def __enter__(self) -> Self:
        self._part.unlink(missing_ok=True)
        descriptor = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._raw = os.fdopen(descriptor, "wb")
        is_compressed = self._file.suffix == ".gz"
        self._out: Any = (
            gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=1)
            if is_compressed
            else self._raw
        )
        self._write(self._header)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._raw.close()
        self._part.unlink(missing_ok=True)

    def record(self, key: bytes, value: bytes) -> None:
        self._entry(RecordEntry, key, value)

    def row(self, key: bytes, value: bytes) -> None:
        self._entry(RowEntry, key, value)

    def end(self) -> Footer:
        """Complete the file, and give it its name."""
        end = Footer(self._counts[RecordEntry], self._counts[RowEntry])
        self._write(end)
        if self._out is not self._raw:
            self._out.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._part.replace(self._file)
        return end

    def _entry(self, entry: type[RecordEntry] | type[RowEntry], key: bytes, value: bytes) -> None:
        line = entry(key.decode(), msgspec.Raw(value))
        self._counts[entry] += 1
        self._write(line)

    def _write(self, line: Line) -> None:
        self._out.write(_encoder.encode(line) + b"\n")


class Backup:
    """A complete backup. Each iteration reads the file again: it may be larger than memory."""

    def __init__(self, file: Path) -> None:
        """Check the file.

        Raises:
            BackupError: it is not a complete backup.
            OSError: it cannot be read.
        """
        self._file = file
        counts = {RecordEntry: 0, RowEntry: 0}
        last: Line | None = None
        for line in self._lines():
            if isinstance(line, RecordEntry | RowEntry):
                counts[type(line)] += 1
            last = line
        if not isinstance(last, Footer) or last != Footer(counts[RecordEntry], counts[RowEntry]):
            raise BackupError(f"{file} is incomplete: its end is missing")
        self.footer = last

    def records(self) -> Iterator[RecordEntry]:
        return self._of(RecordEntry)

    def rows(self) -> Iterator[RowEntry]:
        return self._of(RowEntry)

    def _of(self, entry: type[_Entry]) -> Iterator[_Entry]:
        return (line for line in self._lines() if isinstance(line, entry))

    def _lines(self) -> Iterator[Line]:
        number = 0
        try:
            with self._open() as file:
                for number, text in enumerate(file, 1):
                    line = _decoder.decode(text)
                    if number == 1:
                        self._check(line)
                    yield line
        except _DAMAGE as error:
            where = f"line {number}: " if number else ""
            raise BackupError(f"{self._file} is not a backup: {where}{error}") from error
        if not number:
            raise BackupError(f"{self._file} is empty")

    def _check(self, line: Line) -> None:
        if not isinstance(line, Header):
            raise BackupError(f"{self._file} is not a backup: it has no header")
        if line.version != VERSION:
            raise BackupError(f"{self._file} has the unknown version {line.version}")
        self.header = line

    def _open(self) -> IO[bytes]:
        if self._file.suffix == ".gz":
            return gzip.open(self._file)  # type: ignore[return-value]
        return self._file.open("rb")
