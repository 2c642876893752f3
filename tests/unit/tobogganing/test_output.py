"""Output of commands: columns, fields and progress."""

import io

import pytest

from tobogganing.output import ColumnTable, Progress, cell, fields, width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def count_to(total: int) -> None:
    with Progress("registered", total) as progress:
        for _ in range(total):
            progress.add(1)


def test_progress_is_a_line_for_each_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    count_to(4000)
    assert capsys.readouterr().err.splitlines() == [
        "registered: 1,000 of 4,000",
        "registered: 2,000 of 4,000",
        "registered: 3,000 of 4,000",
        "registered: 4,000 of 4,000",
    ]


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    count_to(4000)
    assert "4000/4000" in terminal.getvalue()
    assert "registered: " not in terminal.getvalue()


def test_columns_are_aligned_and_named_once() -> None:
    table = ColumnTable(["id", "name"])
    assert list(table.lines([{"id": "a", "name": "Anna"}, {"id": "long-id"}])) == [
        "ID       NAME",
        "a        Anna",
        "long-id",
    ]
    assert list(table.lines([{"id": "b", "name": "Bert"}])) == ["b        Bert"]


def test_an_empty_table_has_column_names() -> None:
    assert list(ColumnTable(["id", "name"]).lines([])) == ["ID  NAME"]


def test_a_column_has_the_width_of_the_terminal() -> None:
    assert width("Zürich") == 6
    assert width("Zu\u0308rich") == 6, "a combining accent has no width"
    assert width("東京") == 4
    lines = ColumnTable(["name", "type"]).lines(
        [{"name": "東京", "type": "x"}, {"name": "ab", "type": "y"}]
    )
    assert list(lines) == ["NAME  TYPE", "東京  x", "ab    y"]


def test_a_cell_has_no_control_characters() -> None:
    assert cell("a\x1b[2Jb\r\nc") == "a\ufffd[2Jb\ufffd\ufffdc"
    assert cell(["2030-01-01", "2030-01-02"]) == "2030-01-01, 2030-01-02"
    assert cell(None) == ""
    assert cell(0) == "0"
    assert cell(True) == "yes"


def test_fields_are_one_a_line() -> None:
    assert fields({"client_id": "a", "name": "Anna"}) == "client_id  a\nname       Anna"
