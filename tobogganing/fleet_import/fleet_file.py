"""Fleet files: CSV with column names, or NDJSON, line by line."""

import codecs
import csv
import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

import msgspec

from service.plural import counted
from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import COLUMNS, BadLine, FleetEntry, Line

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


def format_of(file: str, given: str | None) -> Format:
    """The given format, else that of the file's extension.

    Raises:
        LocalError: the extension is unknown.
    """
    for format in FORMATS:
        if given == format:
            return format
    try:
        return _EXTENSIONS[Path(file).suffix.lower()]
    except KeyError:
        raise LocalError(
            f"{file}: unknown format: use --format csv or --format ndjson, or an extension .csv, "
            ".ndjson or .jsonl"
        ) from None


def open_fleet(file: str) -> BinaryIO:
    """Open a file for repeated reading; a pipe is copied first.

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
    """Read every line from the beginning, without validation."""
    source.seek(0)
    return _read_csv(source) if format == "csv" else _read_ndjson(source)


def _read_csv(source: BinaryIO) -> Iterator[Line]:
    text = TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_table(text)
    finally:
        text.detach()


def _read_table(text: TextIO) -> Iterator[Line]:
    skipped: list[str] = []  # written by spreadsheets before a table; lines keep their numbers
    for first in text:
        if first.strip(DELIMITERS + " \r\n") and not first.lower().startswith("sep="):
            break
        skipped.append("\n")
    else:
        return
    # Spreadsheets write semicolons in locales with a decimal comma.
    delimiter = max(DELIMITERS, key=first.count)
    rows = csv.reader(chain(skipped, [first], text), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield BadLine(rows.line_num, f"is not CSV: {error}")
            if header is None:
                return
            continue
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is not None:
            yield _entry(rows.line_num, header, row)
            continue
        header = _without_empty_end([column.strip().lower() for column in row], 0)
        if problem := _header_fault(header):
            yield BadLine(rows.line_num, problem)
            return


def _without_empty_end(row: list[str], length: int) -> list[str]:
    """Drop empty cells beyond `length`, which spreadsheets write next to a table."""
    while len(row) > length and not row[-1].strip():
        row = row[:-1]
    return row


def _header_fault(header: list[str]) -> str | None:
    unknown = [column for column in header if column not in COLUMNS]
    missing = [column for column in _REQUIRED if column not in header]
    if unknown or missing or len(set(header)) < len(header):
        columns = ",".join(COLUMNS)
        return f"the first line must name the columns: {columns} (kind, id and name at least)"
    return None


def _entry(number: int, header: list[str], row: list[str]) -> Line:
    row = _without_empty_end(row, len(header))
    if len(row) != len(header):
        return BadLine(number, f"has {counted(len(row), 'column')} instead of {len(header)}")
    return number, FleetEntry(**dict(zip(header, row, strict=True)))


def _read_ndjson(source: BinaryIO) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(FleetEntry)
    for number, line in enumerate(source, 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            yield BadLine(number, f"is not a registration in JSON: {error}")


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
