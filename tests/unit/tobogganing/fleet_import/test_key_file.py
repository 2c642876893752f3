import stat
from pathlib import Path

import pytest

from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.fleet_file import FORMATS, Format
from tobogganing.fleet_import.key_file import KeyFile

ANNA = FleetEntry("client", "anna", "Anna", type="native")
BERT = FleetEntry("client", "bert", "Bert", type="native")


@pytest.mark.parametrize("format", FORMATS)
def test_a_later_import_appends_keys_and_knows_their_holders(
    tmp_path: Path, format: Format
) -> None:
    file = tmp_path / "keys"
    with KeyFile(file, format) as keys:
        keys.write(ANNA, "key-1")
        assert "key-1" in file.read_text(), "it is written at once"
    with KeyFile(file, format) as keys:
        assert keys.keys().keys() >= {"client:anna"}
        keys.write(BERT, "key-2")
        assert keys.keys().keys() >= {"client:anna", "client:bert"}
    lines = file.read_text().splitlines()
    if format == "csv":
        assert lines == ["kind,id,api_key", "client,anna,key-1", "client,bert,key-2"]
    else:
        assert lines == [
            '{"kind":"client","id":"anna","api_key":"key-1"}',
            '{"kind":"client","id":"bert","api_key":"key-2"}',
        ]


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_line_does_not_damage_others(tmp_path: Path, format: Format) -> None:
    file = tmp_path / "keys"
    with KeyFile(file, format) as keys:
        keys.write(ANNA, "key-1")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind' if format == "ndjson" else whole + b"client,ca")
    with KeyFile(file, format) as keys:
        keys.write(BERT, "key-2")
        assert keys.keys().keys() >= {"client:anna", "client:bert"}
        assert not any("ca" in key for key in set(keys.keys()))


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    with KeyFile(file, "csv"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_readable_by_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.touch(0o644)
    file.chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600"):
        KeyFile(file, "csv")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be written: No such file"):
        KeyFile(tmp_path / "no" / "keys.csv", "csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error() -> None:
    keys = KeyFile(Path("/dev/full"), "csv")
    with pytest.raises(OSError, match="No space left"):
        keys.write(ANNA, "key-1")
