import io
import json
import os
import threading
from pathlib import Path

import pytest

from tobogganing.devstack import log_mux
from tobogganing.devstack.log_mux import LogMux


def send(out: LogMux, name: str, data: bytes) -> None:
    """Let the part `name` write `data`."""
    reader, writer = os.pipe()
    out.attach(name, os.fdopen(reader, "rb"))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(data)


def test_lines_are_prefixed_and_written_to_the_parts_file(tmp_path: Path) -> None:
    terminal = io.BytesIO()
    out = LogMux(terminal, tmp_path)
    send(out, "serve", "one\nzwölf\nwithout an end".encode())
    out.close()
    assert terminal.getvalue().decode() == (
        "serve     | one\nserve     | zwölf\nserve     | without an end\n"
    )
    assert (tmp_path / "serve.log").read_text() == "one\nzwölf\nwithout an end\n"


def test_the_terminal_shows_warnings_and_the_file_everything(tmp_path: Path) -> None:
    terminal = io.BytesIO()
    out = LogMux(terminal, tmp_path)
    audit = [{"level": "info", "event": "audit", "target": f"client:{n}"} for n in range(2000)]
    warning = {"level": "warning", "event": "dead letters written", "number": 1}
    events = [*audit, warning, warning]
    send(out, "serve", "".join(f"{json.dumps(event)}\n" for event in events).encode())
    out.close()
    shown = "serve     | warning: dead letters written (number=1)"
    assert terminal.getvalue().decode() == f"{shown}\n{shown} (1 more)\n"
    assert len((tmp_path / "serve.log").read_text().splitlines()) == len(events)


def test_binary_data_and_percent_signs_are_harmless(tmp_path: Path) -> None:
    out = LogMux(io.BytesIO(), tmp_path)
    send(out, "serve", b"100 %s \xff\n")
    out.close()
    assert (tmp_path / "serve.log").read_text() == "100 %s \ufffd\n"


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_mux, "FILE_BYTES", 1000)
    out = LogMux(io.BytesIO(), tmp_path)
    send(out, "serve", b"x" * 99 + b"\n")
    send(out, "processor", (b"x" * 99 + b"\n") * 100)
    out.close()
    sizes = [file.stat().st_size for file in tmp_path.glob("processor.log*")]
    assert len(sizes) == 1 + log_mux.OLD_FILES
    assert max(sizes) <= 1000


def test_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as terminal:
        out = LogMux(terminal, tmp_path)
        send(out, "serve", b"one\ntwo\n")
        out.close()
    assert (tmp_path / "serve.log").read_text() == "one\ntwo\n"


def test_a_blocked_terminal_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as other_end, os.fdopen(writer, "wb", buffering=0) as terminal:
        out = LogMux(terminal, tmp_path)
        lines = log_mux.WAITING + 5_000
        send_all = threading.Thread(target=send, args=(out, "serve", b"x" * 50 + b"\n"))
        send_all.start()
        for _ in range(lines):
            out.write_line("y" * 50)
        send_all.join()
        out.close(patience=0.1)
        assert (tmp_path / "serve.log").read_text() == "x" * 50 + "\n"
        # When it is unblocked, it gets the kept lines.
        drain = threading.Thread(target=other_end.read)
        drain.start()
        out.close(patience=10)
        terminal.close()
        drain.join(10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_does_not_silence_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serve.log").symlink_to("/dev/full")
    terminal = io.BytesIO()
    out = LogMux(terminal, tmp_path)
    send(out, "serve", b"one\n")
    out.close()
    assert terminal.getvalue() == b"serve     | one\n"
    assert capfd.readouterr().err == ""
