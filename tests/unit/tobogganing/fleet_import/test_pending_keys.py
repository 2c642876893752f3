"""Keys that are on the disk before a gateway sees them."""

import stat
from pathlib import Path

import pytest

from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.pending_keys import PendingKeys

CLIENTS = [FleetEntry("client", f"c-{n}", "C", type="native") for n in range(5)]
CLUSTER = FleetEntry("cluster", "c", "C", region="eu", datacenter="fra1")


def test_the_same_keys_come_back_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "keys.pending"
    first = PendingKeys(file).prepare([*CLIENTS[:3], CLUSTER])
    assert set(first) == {"client:c-0", "client:c-1", "client:c-2"}
    assert len(set(first.values())) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open("ab") as stream:
        stream.write(b'{"kind":"client","id":"c-3","api_')  # cut off
    second = PendingKeys(file).prepare(CLIENTS)
    third = PendingKeys(file)
    assert third.prepare(CLIENTS) == second
    assert second.items() >= first.items()
    third.forget()
    assert not file.exists()
    assert PendingKeys(file).prepare(CLIENTS[:1]) != third.prepare(CLIENTS[:1])


def test_without_a_file_they_are_kept_in_memory(tmp_path: Path) -> None:
    keys = PendingKeys(None)
    assert keys.prepare(CLIENTS) == keys.prepare(CLIENTS)
    keys.forget()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    keys = PendingKeys(tmp_path / "keys.pending")
    (tmp_path / "keys.pending").unlink()
    (tmp_path / "keys.pending").mkdir()
    with pytest.raises(OSError, match="directory"):
        keys.prepare(CLIENTS)
