"""`tobogganing fleet import`: the whole file is checked, then registered, clusters first."""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from contract.registry import CLUSTER
from service.plural import counted
from tobogganing.api_client.session import ManagerApi
from tobogganing.api_client.target import ApiTarget
from tobogganing.backoff import stop_on_signals
from tobogganing.errors import EXIT_INTERRUPTED, LocalError
from tobogganing.fleet_import.bulk_register import BulkRegistration, ImportReport, Numbered
from tobogganing.fleet_import.fleet_entry import (
    KINDS,
    BadLine,
    FileCheck,
    validate,
    validation_error,
)
from tobogganing.fleet_import.fleet_file import Format, format_of, open_fleet, read_fleet
from tobogganing.fleet_import.key_file import KeyFile
from tobogganing.fleet_import.pending_keys import PendingKeys
from tobogganing.output import Progress, write_document, write_note


def import_fleet(
    api: ApiTarget,
    as_json: bool,
    file: str,
    given_format: str | None,
    credentials: Path | None,
    connections: int,
) -> None:
    """Import; the exit status is 1 if an entry is not registered as in the file.

    Raises:
        LocalError: nothing was registered, or the import ended early.
    """
    format = format_of(file, given_format)
    with open_fleet(file) as source:
        found = _check(api, file, source, format)
        total = found.counts.total()
        if as_json and credentials is None and total > found.counts[CLUSTER]:
            raise LocalError("with --json the summary goes to stdout: add --credentials FILE")
        report = ImportReport(total)
        without_key = _register(api, source, format, report, credentials, connections)
    for line in report.lines(without_key):
        write_note(line)
    if as_json:
        write_document(report.document(without_key), as_json)
    if report.fault:
        raise LocalError(report.fault)
    if report.remaining:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if report.is_good else 1)


def _check(api: ApiTarget, file: str, source: BinaryIO, format: Format) -> FileCheck:
    """Validate the file, and check that its headends' clusters exist."""
    found = validate(read_fleet(source, format))
    if not found.invalid_count:
        api.check()
        with api.client() as client:
            for cluster_id, number in found.unknown_clusters.items():
                if client.get_or_none(f"/api/v1/clusters/{cluster_id}") is None:
                    problem = f"{cluster_id} is neither in this file nor registered"
                    found.refuse(BadLine(number, f"cluster_id: {problem}"))
    for line in found.invalid_lines:
        write_note(f"{file}:{line.number}: {line.fault}")
    if found.invalid_count:
        raise LocalError(f"{counted(found.invalid_count, 'bad line')}: nothing was registered")
    return found


def _register(
    api: ApiTarget,
    source: BinaryIO,
    format: Format,
    report: ImportReport,
    credentials: Path | None,
    connections: int,
) -> list[str]:
    """Register all entries; return those registered before whose keys `credentials` lacks."""

    async def register(keys: KeyFile, progress: Progress) -> None:
        async with ManagerApi(api.url, connections) as session:
            registration = BulkRegistration(
                session, api.token(), keys, pending, holders, report, progress.add
            )
            stop_on_signals(registration.stop)
            for kinds in (KINDS[:1], KINDS[1:]):
                await registration.run(_valid(kinds, source, format), connections)

    as_csv = credentials is not None and credentials.suffix.lower() == ".csv"
    with KeyFile(credentials, "csv" if as_csv else "ndjson") as keys:
        holders = keys.keys()
        pending = PendingKeys(_pending_file(credentials, keys))
        with Progress("processed", report.total) as progress:
            started = time.monotonic()
            asyncio.run(register(keys, progress))
            report.seconds = time.monotonic() - started
    if report.is_good:
        pending.forget()
    return report.without_key(holders) if credentials else []


def _pending_file(credentials: Path | None, keys: KeyFile) -> Path | None:
    if credentials is None or not keys.is_regular:
        return None
    return credentials.with_name(f"{credentials.name}.pending")


def _valid(kinds: tuple[str, ...], source: BinaryIO, format: Format) -> Iterator[Numbered]:
    for line in read_fleet(source, format):
        # A line can be bad here only if the file has changed since the check.
        if isinstance(line, BadLine) or line[1].kind not in kinds or validation_error(line[1]):
            continue
        yield line
