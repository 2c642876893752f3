"""A directory with entities in every state."""

from typing import Any

import pytest

from contract.registry import RegistryRecord, encode_record
from contract.registry_state import RegistryState
from contract.row import encode_row
from exporter.checkins.directory import Directory
from exporter.checkins.listing import View
from exporter.state.store import StateStore
from exporter.thresholds import Thresholds
from tests.unit.exporter.model import make_row

NOW = 1_780_000_000.0
THRESHOLDS = {"client": Thresholds(300, 900), "headend": Thresholds(120, 300)}


class Fleet:
    """Rows and registrations, and the directory that follows them."""

    def __init__(self) -> None:
        self.store = StateStore([0])
        self.registered = RegistryState()
        self.directory = Directory(self.store, self.registered, 1)
        self._offset = 0

    def register(self, kind: str, id: str, *, removed: bool = False, **values: Any) -> None:
        self._offset += 1
        record = RegistryRecord(
            version=1,
            kind=kind,
            id=id,
            revision=self._offset,
            name=values.pop("name", id),
            attributes=values,
            incarnation=self._offset,
            removed=removed,
        )
        self.registered.apply(self._offset, record.key, encode_record(record))

    def report(self, kind: str, id: str, age: float, **values: Any) -> None:
        self._offset += 1
        row = make_row(offset=self._offset, last_check_in=NOW - age, **values)
        assert self.store.apply(0, f"{kind}:{id}".encode(), encode_row(row))

    def forget(self, kind: str, id: str) -> None:
        self.store.apply(0, f"{kind}:{id}".encode(), None)

    def view(self, kind: str = "client", as_of: float = NOW) -> View:
        return View(self.directory.kinds[kind].snapshot(), THRESHOLDS[kind], as_of)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()
