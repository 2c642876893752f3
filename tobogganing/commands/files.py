"""Fleets in files: CSV with a heading, or NDJSON, line by line."""

import csv
import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TextIO

import msgspec

from tobogganing.commands.entry import COLUMNS, Entry
from tobogganing.local.errors import LocalError

Format = Literal["csv", "ndjson"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson")
STDIO = "-"

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
_REQUIRED = ("kind", "id", "name")


class BadLine(NamedTuple):
    """A line that is no registration, and why."""

    number: int
    fault: str


Line = tuple[int, Entry] | BadLine
"""What a line holds, with its number."""


def format_of(file: str, given: str | None) -> Format:
    """Return the format asked for, else that of the file's extension.

    Raises:
        LocalError: neither says.
    """
    for format in FORMATS:
        if given == format:
            return format
    try:
        return _EXTENSIONS[Path(file).suffix.lower()]
    except KeyError:
        raise LocalError(
            f"{file}: what format? Say --format csv or --format ndjson (.csv, .ndjson and .jsonl "
            "say it themselves)"
        ) from None


def open_fleet(file: str) -> BinaryIO:
    """Open a file that can be read again from its beginning: a pipe is copied first.

    Raises:
        LocalError: it cannot be read.
    """
    try:
        if file == STDIO:
            return _copy(sys.stdin.buffer)
        source = Path(file).open("rb")  # noqa: SIM115 (the caller closes it)
        if source.seekable():
            return source
        with source:
            return _copy(source)
    except OSError as error:
        raise LocalError(f"{file} cannot be read: {error.strerror}") from None


def _copy(source: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (as above)
    shutil.copyfileobj(source, copy)
    return copy


def read_fleet(source: BinaryIO, format: Format) -> Iterator[Line]:
    """Read every line, from the beginning; whether a gateway would take it is not asked here."""
    source.seek(0)
    return _read_csv(source) if format == "csv" else _read_ndjson(source)


def _read_csv(source: BinaryIO) -> Iterator[Line]:
    text = TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_table(text)
    finally:
        text.detach()


def _read_table(text: TextIO) -> Iterator[Line]:
    rows = csv.reader(text, strict=True)
    heading: list[str] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield BadLine(rows.line_num, f"is no CSV: {error}")
            if heading is None:
                return
            continue
        if row is None:
            return
        if not row:
            continue
        if heading is not None:
            yield _entry(rows.line_num, heading, row)
            continue
        heading = [column.strip().lower() for column in row]
        if problem := _heading_fault(heading):
            yield BadLine(rows.line_num, problem)
            return


def _heading_fault(heading: list[str]) -> str | None:
    unknown = [column for column in heading if column not in COLUMNS]
    missing = [column for column in _REQUIRED if column not in heading]
    if unknown or missing or len(set(heading)) < len(heading):
        columns = ",".join(COLUMNS)
        return f"the first line must name the columns: {columns} (kind, id and name at least)"
    return None


def _entry(number: int, heading: list[str], row: list[str]) -> Line:
    if len(row) != len(heading):
        return BadLine(number, f"has {len(row)} columns instead of {len(heading)}")
    return number, Entry(**dict(zip(heading, row, strict=True)))


def _read_ndjson(source: BinaryIO) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Entry)
    for number, line in enumerate(source, 1):
        if line.isspace():
            continue
        try:
            yield number, decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            yield BadLine(number, f"is no registration in JSON: {error}")


class FleetWriter:
    """Writes entries to a text stream."""

    def __init__(self, stream: TextIO, format: Format) -> None:
        self._stream = stream
        self._csv = csv.writer(stream, lineterminator="\n") if format == "csv" else None
        self._encoder = msgspec.json.Encoder()
        if self._csv is not None:
            self._csv.writerow(COLUMNS)

    def write(self, entry: Entry) -> None:
        if self._csv is not None:
            self._csv.writerow(msgspec.structs.astuple(entry))
        else:
            self._stream.write(self._encoder.encode(entry).decode() + "\n")
