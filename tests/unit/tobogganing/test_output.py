"""Output of commands: columns, fields and progress."""

import io

import click
import pytest

from tobogganing.output import ColumnTable, Progress, cell, fields, width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen(io.TextIOWrapper):
    """A terminal that `write` accepts."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return click.unstyle(self.buffer.getvalue().decode())


def shown_at(
    monkeypatch: pytest.MonkeyPatch, columns: int, names: list[str], *pages: list[dict[str, object]]
) -> str:
    """Return the pages of a table as a terminal of this width shows them."""
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    table = ColumnTable(names)
    for page in pages:
        table.write(page)
    return screen.text


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


def test_numbers_are_grouped() -> None:
    assert cell(1234567) == "1,234,567"
    assert cell(-1234.5) == "-1,234.5"
    assert cell("1234567") == "1234567", "an id"
    assert cell(1234567, "offset") == "1234567", "to paste"
    assert cell(1.5e300) == "1.5e+300"


REASON = "the credential was refused 1,200 times because the key was rotated"
EVIDENCE: list[dict[str, object]] = [
    {"at": "2030-01-01T00:00:00Z", "what": "refused", "reason": REASON, "receipt": "3-17-0-179542"},
    {
        "at": "2030-01-01T00:00:01Z",
        "what": "x" * 30,
        "reason": "東京 " * 9,
        "receipt": "3-18-0-179",
    },
]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
def test_a_terminal_of_any_width_shows_every_cell(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    shown = shown_at(monkeypatch, columns, list(EVIDENCE[0]), EVIDENCE[:1], EVIDENCE[1:])
    words = shown.split()
    for row in EVIDENCE:
        for value in row.values():
            missing = [word for word in str(value).split() if word not in words]
            assert not missing, shown
    assert all(name in shown.lower() for name in EVIDENCE[0]), shown


def test_a_table_that_fits_has_a_row_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_at(monkeypatch, 140, list(EVIDENCE[0]), EVIDENCE).splitlines()
    assert len(lines) == 4, lines
    assert REASON in lines[2]


def test_a_wide_table_is_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_at(monkeypatch, 80, list(EVIDENCE[0]), EVIDENCE[:1])
    assert "AT" in shown.splitlines()[0]
    assert "3-17-0-179542" in shown.splitlines()[2]
    assert all(width(line) <= 80 for line in shown.splitlines()), shown


def test_a_table_that_cannot_be_folded_is_a_block_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = shown_at(monkeypatch, 40, list(EVIDENCE[0]), EVIDENCE[:1], EVIDENCE[1:])
    first, second, end = shown.split("\n\n")
    assert not end
    assert first == (
        "at       2030-01-01T00:00:00Z\nwhat     refused\n"
        f"reason   {REASON}\nreceipt  3-17-0-179542"
    )
    assert second.startswith("at       2030-01-01T00:00:01Z")


def test_an_empty_table_shows_all_column_names_at_any_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for columns in (10, 80):
        shown = shown_at(monkeypatch, columns, list(EVIDENCE[0]), [])
        assert shown.split()[:4] == ["AT", "WHAT", "REASON", "RECEIPT"], shown


def test_fields_are_one_a_line() -> None:
    assert fields({"client_id": "a", "name": "Anna"}) == "client_id  a\nname       Anna"
