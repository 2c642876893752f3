"""`tobogganing fleet remove`: clients and headends first, then the clusters that they were in."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

import click

from contract.kinds import is_id
from service.plural import counted
from tobogganing.api_client.session import ManagerApi, ManagerUnreachableError
from tobogganing.api_client.target import ApiTarget
from tobogganing.backoff import backoff, stop_on_signals, stopped_before
from tobogganing.errors import EXIT_INTERRUPTED, LocalError
from tobogganing.fleet_import.fleet_entry import COLLECTIONS, KINDS, BadLine, FleetEntry
from tobogganing.fleet_import.fleet_file import (
    STDIO,
    Format,
    format_of,
    open_fleet,
    read_fleet,
)
from tobogganing.output import Progress, write_document, write_note

AT_ONCE = 32
ATTEMPTS = 12
SHOWN = 20


@dataclass
class RemovalReport:
    """What became of a removal."""

    total: int
    removed: int = 0
    missing: int = 0
    """Those that are not registered."""
    faults: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        return self.total - self.removed - self.missing - len(self.faults)


class FleetRemoval:
    """Removes entries; setting `stop` ends it after the requests in progress."""

    def __init__(
        self, api: ManagerApi, admin_token: str, report: RemovalReport, progress: Progress
    ) -> None:
        self.stop = asyncio.Event()
        self._api = api
        self._admin_token = admin_token
        self._report = report
        self._progress = progress

    async def run(self, entries: Iterator[FleetEntry]) -> None:
        """Remove them all, in any order."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._work(entries))

    async def _work(self, entries: Iterator[FleetEntry]) -> None:
        for entry in entries:
            if self.stop.is_set():
                return
            await self._remove(entry)

    async def _remove(self, entry: FleetEntry) -> None:
        path = f"/api/v1/{COLLECTIONS[entry.kind]}/{entry.id}"
        last = ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            try:
                response = await self._api.request("DELETE", path, self._admin_token)
            except ManagerUnreachableError as error:
                last = str(error)
            else:
                if response.status == 200:
                    self._report.removed += 1
                elif response.status == 404:
                    self._report.missing += 1
                elif response.status not in (429, 503):
                    self._report.faults.append(f"{entry.key}: {response}")
                if response.status not in (429, 503):
                    self._progress.add(1)
                    if response.status == 401:
                        self.stop.set()
                    return
                last, retry_after = str(response), response.retry_after
            if await stopped_before(self.stop, time.monotonic() + backoff(attempt, retry_after)):
                return
        self._report.faults.append(f"{entry.key} was tried {ATTEMPTS} times; at last: {last}")
        self.stop.set()


def remove_fleet(
    api: ApiTarget, as_json: bool, file: str, given_format: str | None, yes: bool
) -> None:
    """Remove; the exit status is 1 if anything is left that the file names.

    Raises:
        LocalError: nothing was removed; the text says why.
    """
    known = format_of(file, given_format)
    with open_fleet(file) as source:
        total = _check(file, source, known)
        api.check()
        if not yes and file != STDIO and sys.stdin.isatty():
            click.confirm(
                f"Remove {counted(total, 'entity', 'entities')} in {file}?", abort=True, err=True
            )
        remove_entries(api, as_json, total, lambda: _entries(source, known))


def remove_entries(
    api: ApiTarget, as_json: bool, total: int, entries: Callable[[], Iterable[FleetEntry]]
) -> NoReturn:
    """Remove entries, of which only kind and id count, and exit.

    The status is 1 if one is left, 130 if an interruption left some. `entries` is called twice.
    """
    report = RemovalReport(total)
    with Progress("removed", total) as progress:
        asyncio.run(_remove(api, entries, report, progress))
    document = {
        "removed": report.removed,
        "not_registered": report.missing,
        "faults": len(report.faults),
        "left": report.remaining,
    }
    for fault in report.faults[:SHOWN]:
        write_note(fault)
    if as_json:
        write_document(document, as_json)
    else:
        write_note(", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in document.items()))
    if report.faults:
        sys.exit(1)
    sys.exit(EXIT_INTERRUPTED if report.remaining else 0)


async def _remove(
    api: ApiTarget,
    entries: Callable[[], Iterable[FleetEntry]],
    report: RemovalReport,
    progress: Progress,
) -> None:
    async with ManagerApi(api.url, AT_ONCE) as session:
        removal = FleetRemoval(session, api.token(), report, progress)
        stop_on_signals(removal.stop)
        for kinds in (KINDS[1:], KINDS[:1]):
            await removal.run(entry for entry in entries() if entry.kind in kinds)


def _entries(source: BinaryIO, format: Format) -> Iterator[FleetEntry]:
    for line in read_fleet(source, format):
        if not isinstance(line, BadLine):
            yield line[1]


def _check(file: str, source: BinaryIO, format: Format) -> int:
    """Count the entries.

    Raises:
        LocalError: a line names nothing that could be removed.
    """
    total, bad = 0, 0
    for line in read_fleet(source, format):
        total += 1
        fault = line.fault if isinstance(line, BadLine) else _fault(line[1])
        if fault:
            bad += 1
            if bad <= SHOWN:
                write_note(f"{file}:{line[0]}: {fault}")
    if bad:
        raise LocalError(f"{counted(bad, 'bad line')}: nothing was removed")
    return total


def _fault(entry: FleetEntry) -> str:
    if entry.kind not in KINDS:
        return f"kind: must be one of {', '.join(KINDS)}"
    return "" if is_id(entry.id) else "id: is no id"
