"""The file with the API keys of an import: each key is written before the next registration."""

import csv
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.fleet_file import Format

COLUMNS = ("kind", "id", "api_key")
_SHARED = stat.S_IRWXG | stat.S_IRWXO


class KeyFile:
    """Appends keys to a file that only its owner can read, or to stdout; a context manager.

    Raises:
        LocalError: the file cannot be written, or others can read it.
    """

    def __init__(self, file: Path | None, format: Format) -> None:
        self._format = format
        self._file = file
        self._is_regular = False
        self._is_empty = True
        self._is_torn = False
        if file is None:
            self._descriptor = os.dup(1)
            return
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            self._inspect(file)
        except OSError as error:
            raise LocalError(f"{file} cannot be written: {error.strerror}") from None

    def _inspect(self, file: Path) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_mode & _SHARED:
            raise LocalError(f"{file} is for API keys, but others can read it: chmod 600 {file}")
        self._is_regular = True
        self._is_empty = status.st_size == 0
        if not self._is_empty:
            self._is_torn = os.pread(self._descriptor, 1, status.st_size - 1) != b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._is_regular:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def write(self, entry: FleetEntry, api_key: str) -> None:
        """Append a key; it survives the end of this process.

        Raises:
            OSError: it could not be written completely.
        """
        line = self._line((entry.kind, entry.id, api_key))
        if self._is_empty:
            self._is_empty = False
            if self._format == "csv":
                line = self._line(COLUMNS) + line
        if self._is_torn:  # The last line was cut off, by a crash or a full disk.
            self._is_torn = False
            line = b"\n" + line
        while line:
            line = line[os.write(self._descriptor, line) :]

    @property
    def is_regular(self) -> bool:
        """Whether this is a file on a disk, and not stdout or a device."""
        return self._is_regular

    def keys(self) -> dict[str, str]:
        """The keys in the file, by `kind:id`."""
        if self._file is None or not self._is_regular:
            return {}
        with self._file.open(encoding="utf-8", errors="replace", newline="") as stream:
            rows = csv.reader(stream) if self._format == "csv" else _read_lines(stream)
            return {
                f"{row[0]}:{row[1]}": row[2] for row in rows if len(row) == len(COLUMNS) and row[2]
            }

    def _line(self, row: tuple[str, ...]) -> bytes:
        if self._format == "ndjson":
            return msgspec.json.encode(dict(zip(COLUMNS, row, strict=True))) + b"\n"
        # CSV needs no quotes for ids and keys.
        return ",".join(row).encode() + b"\n"


def _read_lines(stream: io.TextIOBase) -> Iterator[list[Any]]:
    for line in stream:
        try:
            document = msgspec.json.decode(line)
            yield [document[column] for column in COLUMNS]
        except (msgspec.MsgspecError, KeyError, TypeError):
            continue
