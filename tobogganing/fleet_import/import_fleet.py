"""`tobogganing fleet import`: the whole file is checked, then registered, clusters first."""

import asyncio
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contract.registry import CLUSTER
from tobogganing.api_client.session import ManagerApi
from tobogganing.api_client.target import ApiTarget
from tobogganing.backoff import stop_on_signals
from tobogganing.errors import LocalError
from tobogganing.fleet_import.bulk_register import BulkRegistration, Numbered
from tobogganing.fleet_import.fleet_entry import KINDS, validation_error
from tobogganing.fleet_import.fleet_file import (
    BadLine,
    Format,
    Line,
    format_of,
    open_fleet,
    read_fleet,
)
from tobogganing.fleet_import.import_report import ImportReport
from tobogganing.fleet_import.key_file import KeyFile
from tobogganing.fleet_import.pending_keys import PendingKeys
from tobogganing.fleet_import.validate import FileCheck, validate
from tobogganing.output import write_document, write_note
from tobogganing.progress import Progress, counted

EXIT_INTERRUPTED = 130


@dataclass
class Import:
    """One import. `credentials` is None for stdout."""

    access: ApiTarget
    file: str
    format: Format
    credentials: Path | None
    connections: int

    def check(self, source: BinaryIO) -> FileCheck:
        """Look through the file, and ask for the clusters that it names and does not hold.

        Raises:
            LocalError: there is a bad line, or no gateway, or not the right ADMIN_TOKEN.
        """
        found = validate(read_fleet(source, self.format))
        if not found.invalid_count:
            with self.access.client() as client:
                client.request("GET", "/api/v1/clusters", query={"limit": "1"})
                for cluster_id, number in found.unknown_clusters.items():
                    if client.get_or_none(f"/api/v1/clusters/{cluster_id}") is None:
                        problem = f"{cluster_id} is neither in this file nor registered"
                        found.refuse(BadLine(number, f"cluster_id: {problem}"))
        for line in found.invalid_lines:
            write_note(f"{self.file}:{line.number}: {line.fault}")
        if found.invalid_count:
            plural = "s" if found.invalid_count > 1 else ""
            raise LocalError(f"{found.invalid_count:,} bad line{plural}: nothing was registered")
        return found

    def register(self, source: BinaryIO, total: int) -> tuple[ImportReport, list[str]]:
        """Register everything; what became of it, and who has no key in the file of credentials.

        Raises:
            LocalError: the keys cannot be written.
        """
        as_csv = self.credentials is not None and self.credentials.suffix.lower() == ".csv"
        with (
            KeyFile(self.credentials, "csv" if as_csv else "ndjson") as keys,
            Progress("registered", total, sys.stderr, counted) as progress,
        ):
            holders = keys.keys()
            pending = PendingKeys(self._pending_file(keys))
            report = ImportReport(total)
            started = time.monotonic()
            asyncio.run(self._register(source, report, keys, pending, holders, progress))
            report.seconds = time.monotonic() - started
        if report.is_good:
            pending.forget()
        before = holders if self.credentials else report.already_registered
        return report, report.without_key(frozenset(before))

    def _pending_file(self, keys: KeyFile) -> Path | None:
        if self.credentials is None or not keys.is_regular:
            return None
        return self.credentials.with_name(f"{self.credentials.name}.pending")

    async def _register(
        self,
        source: BinaryIO,
        report: ImportReport,
        keys: KeyFile,
        pending: PendingKeys,
        holders: Collection[str],
        progress: Progress,
    ) -> None:
        async with ManagerApi(self.access.url, self.connections) as api:
            registration = BulkRegistration(
                api, self.access.token(), keys, pending, holders, report, progress.add
            )
            stop_on_signals(registration.stop)
            for kinds in (KINDS[:1], KINDS[1:]):
                entries = _only(kinds, read_fleet(source, self.format))
                await registration.run(entries, self.connections)


def _only(kinds: Iterable[str], lines: Iterable[Line]) -> Iterator[Numbered]:
    for line in lines:
        # Bad lines are those of a file that has changed since it was checked.
        if (
            not isinstance(line, BadLine)
            and line[1].kind in kinds
            and not validation_error(line[1])
        ):
            yield line


def main(
    access: ApiTarget,
    as_json: bool,
    *,
    file: str,
    format: str | None,
    credentials: Path | None,
    connections: int,
) -> None:
    """Import; the exit status is 1 if anything is not registered as the file has it.

    Raises:
        LocalError: nothing was registered; the text says why.
    """
    job = Import(access, file, format_of(file, format), credentials, connections)
    with open_fleet(file) as source:
        found = job.check(source)
        if as_json and credentials is None and found.counts.total() > found.counts[CLUSTER]:
            raise LocalError("with --json the summary goes to stdout: say --credentials FILE")
        report, without_key = job.register(source, found.counts.total())
    for line in report.lines(without_key):
        write_note(line)
    if as_json:
        write_document(report.document(without_key), as_json)
    if report.fault:
        raise LocalError(report.fault)
    if report.remaining:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if report.is_good else 1)
