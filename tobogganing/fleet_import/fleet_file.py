"""Fleets in files: CSV with a heading, or NDJSON, line by line."""

import codecs
import csv
import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TextIO

import msgspec

from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import COLUMNS, FleetEntry

Format = Literal["csv", "ndjson"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson")
STDIO = "-"
DELIMITERS = ",;\t"

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


Line = tuple[int, FleetEntry] | BadLine
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
    skipped: list[str] = []  # what spreadsheets write before a table; lines keep their numbers
    for first in text:
        if first.strip(DELIMITERS + " \r\n") and not first.lower().startswith("sep="):
            break
        skipped.append("\n")
    else:
        return
    # Spreadsheets write semicolons where the decimal point is a comma.
    delimiter = max(DELIMITERS, key=first.count)
    rows = csv.reader(chain(skipped, [first], text), strict=True, delimiter=delimiter)
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
        if not any(cell.strip() for cell in row):
            continue
        if heading is not None:
            yield _entry(rows.line_num, heading, row)
            continue
        heading = _without_empty_end([column.strip().lower() for column in row], 0)
        if problem := _heading_fault(heading):
            yield BadLine(rows.line_num, problem)
            return


def _without_empty_end(row: list[str], length: int) -> list[str]:
    """Leave out empty cells beyond `length`, which spreadsheets write beside a table."""
    while len(row) > length and not row[-1].strip():
        row = row[:-1]
    return row


def _heading_fault(heading: list[str]) -> str | None:
    unknown = [column for column in heading if column not in COLUMNS]
    missing = [column for column in _REQUIRED if column not in heading]
    if unknown or missing or len(set(heading)) < len(heading):
        columns = ",".join(COLUMNS)
        return f"the first line must name the columns: {columns} (kind, id and name at least)"
    return None


def _entry(number: int, heading: list[str], row: list[str]) -> Line:
    row = _without_empty_end(row, len(heading))
    if len(row) != len(heading):
        return BadLine(number, f"has {len(row)} columns instead of {len(heading)}")
    return number, FleetEntry(**dict(zip(heading, row, strict=True)))


def _read_ndjson(source: BinaryIO) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(FleetEntry)
    for number, line in enumerate(source, 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
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

    def write(self, entry: FleetEntry) -> None:
        if self._csv is not None:
            self._csv.writerow(msgspec.structs.astuple(entry))
        else:
            self._stream.write(self._encoder.encode(entry).decode() + "\n")
