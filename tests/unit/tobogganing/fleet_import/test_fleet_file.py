import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import COLUMNS, BadLine, FleetEntry, Line
from tobogganing.fleet_import.fleet_file import (
    FORMATS,
    FleetWriter,
    Format,
    format_of,
    open_fleet,
    read_fleet,
)

HEADING = ",".join(COLUMNS)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)
"""Any text without a carriage return, which no registration has."""


def is_filled(entry: FleetEntry) -> bool:
    return any(value.strip() for value in msgspec.structs.astuple(entry))


def read(text: str | bytes, format: Format) -> list[Line]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_fleet(io.BytesIO(content), format))


@pytest.mark.parametrize("format", FORMATS)
@given(
    entries=st.lists(st.builds(FleetEntry, *[values] * len(COLUMNS)).filter(is_filled), max_size=5)
)
def test_a_written_file_can_be_read(format: Format, entries: list[FleetEntry]) -> None:
    stream = io.StringIO(newline="")
    writer = FleetWriter(stream, format)
    for entry in entries:
        writer.write(entry)
    assert [line[1] for line in read(stream.getvalue(), format)] == entries


@pytest.mark.parametrize("format", FORMATS)
@given(content=st.binary(max_size=60))
def test_any_content_is_at_most_bad_lines(format: Format, content: bytes) -> None:
    for line in read(HEADING.encode() + b"\n" + content, format):
        assert line[0] >= 1


def test_columns_may_be_fewer_and_in_another_order() -> None:
    lines = read("\ufeffName, ID ,kind,type\r\nAnna,anna,client,native\r\n\r\n", "csv")
    assert lines == [(2, FleetEntry("client", "anna", "Anna", type="native"))]


ANNA = FleetEntry("client", "anna", "Anna", type="native")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("kind,id,name,type\r\nclient,anna,Anna,native\r\n,,,\r\n , ,,\r\n", 2),
        ("kind,id,name,type,,\nclient,anna,Anna,native,,\n", 2),
        ("kind,id,name,type\nclient,anna,Anna,native,,,\n,\n", 2),
        (",,,\n\nkind,id,name,type\nclient,anna,Anna,native\n", 4),
        ("\ufeffkind;id;name;type\r\nclient;anna;Anna;native\r\n;;;\r\n", 2),
        ("\ufeffsep=;\r\nkind;id;name;type\r\nclient;anna;Anna;native\r\n", 3),
        ("kind\tid\tname\ttype\nclient\tanna\tAnna\tnative\n\t\t\t\n", 2),
    ],
)
def test_a_table_from_a_spreadsheet(text: str, number: int) -> None:
    assert read(text, "csv") == [(number, ANNA)]


def test_ndjson_with_bom_and_crlf() -> None:
    line = '{"kind":"client","id":"anna","name":"Anna","type":"native"}'
    assert read(f"\ufeff{line}\r\n\r\n  \r\n{line}", "ndjson") == [(1, ANNA), (4, ANNA)]


@pytest.mark.parametrize("content", ["", "\n", ",,\n", "sep=;\n"])
def test_a_file_without_a_table_has_no_lines(content: str) -> None:
    assert read(content, "csv") == []


@pytest.mark.parametrize(
    "heading", ["kind|id|name", "kind,id", "kind,id,name,colour", "a,anna,Anna"]
)
def test_an_invalid_header(heading: str) -> None:
    (line,) = read(f"{heading}\nclient,anna,Anna\n", "csv")
    assert isinstance(line, BadLine)
    assert line.number == 1
    assert HEADING in line.fault


def test_bad_lines_of_csv_have_their_numbers() -> None:
    text = (
        "kind,id,name,type\n"
        "client,a,A,native\n"
        "client,b,B\n"
        'client,"c\nc",C,native\n'
        'client,"d"d,D,native\n'
        "client,e,E,native\n"
    )
    lines = read(text, "csv")
    assert [line[0] for line in lines] == [2, 3, 5, 6, 7]
    assert lines[1] == BadLine(3, "has 3 columns instead of 4")
    assert isinstance(lines[3], BadLine)
    assert lines[4] == (7, FleetEntry("client", "e", "E", type="native"))


def test_bad_lines_of_ndjson_have_their_numbers() -> None:
    text = "\n".join(
        [
            '{"kind":"client","id":"a","name":"A"}',
            "",
            "no",
            '{"kind":"client","id":"b"}',
            '{"kind":"client","id":"c","name":"C","colour":"red"}',
        ]
    )
    lines = read(text, "ndjson")
    assert [line[0] for line in lines] == [1, 3, 4, 5]
    assert lines[0] == (1, FleetEntry("client", "a", "A"))
    faults = [line.fault for line in lines if isinstance(line, BadLine)]
    assert "`name`" in faults[1]
    assert "`colour`" in faults[2]


def test_invalid_utf_8_is_detected() -> None:
    ((_, entry),) = read(b"kind,id,name\nclient,a,\xff\n", "csv")
    assert isinstance(entry, FleetEntry)
    assert entry.name == "\udcff"
    (line,) = read(b'{"kind":"client","id":"a","name":"\xff"}\n', "ndjson")
    assert isinstance(line, BadLine)


@pytest.mark.parametrize(
    ("file", "given", "expected"),
    [
        ("fleet.csv", None, "csv"),
        ("FLEET.CSV", None, "csv"),
        ("fleet.jsonl", None, "ndjson"),
        ("fleet.csv", "ndjson", "ndjson"),
        ("-", "csv", "csv"),
    ],
)
def test_the_format(file: str, given: str | None, expected: str) -> None:
    assert format_of(file, given) == expected


@pytest.mark.parametrize("file", ["-", "fleet", "fleet.txt"])
def test_an_unknown_format(file: str) -> None:
    with pytest.raises(LocalError, match="--format csv or --format ndjson"):
        format_of(file, None)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"fleet.csv cannot be read: No such file"):
        open_fleet(str(tmp_path / "fleet.csv"))
