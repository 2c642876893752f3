"""API keys of an import, stored before they are sent, so that neither a lost response nor a kill
loses one.

`<credentials>.pending` holds them until the import is complete; the next import sends the same
keys, which the gateway recognises.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from contract.registry import CLUSTER
from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.key_file import KeyFile


class PendingKeys:
    """Makes keys. Without a `file` they are kept in memory only."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._keys: dict[str, str] = {}
        if file is not None:
            with KeyFile(file, "ndjson") as before:
                self._keys = before.keys()

    def prepare(self, entries: Sequence[FleetEntry]) -> dict[str, str]:
        """Return the keys of entries, `kind:id` -> key; new ones are on the disk by then.

        Raises:
            OSError: they cannot be written.
        """
        wanted = [entry for entry in entries if entry.kind != CLUSTER]
        made = [entry for entry in wanted if entry.key not in self._keys]
        self._keys |= {entry.key: secrets.token_urlsafe(32) for entry in made}
        if self._file is not None and made:
            with self._file.open("ab") as stream:
                stream.write(b"\n")  # a kill may have cut the last line off
                stream.writelines(
                    msgspec.json.encode(
                        {"kind": entry.kind, "id": entry.id, "api_key": self._keys[entry.key]}
                    )
                    + b"\n"
                    for entry in made
                )
                stream.flush()
                os.fsync(stream.fileno())
        return {entry.key: self._keys[entry.key] for entry in wanted}

    def forget(self) -> None:
        """Delete the file: the import is complete."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
