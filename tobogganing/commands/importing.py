"""`tobogganing fleet import`: the whole file is checked, then registered, clusters first."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import uvloop

from contract.registry import CLUSTER
from tobogganing.commands.access import Access
from tobogganing.commands.answers import note, show
from tobogganing.commands.checking import Check, check
from tobogganing.commands.connection import Target
from tobogganing.commands.entry import KINDS, fault
from tobogganing.commands.files import BadLine, Format, Line, format_of, open_fleet, read_fleet
from tobogganing.commands.key_file import KeyFile
from tobogganing.commands.outcome import Outcome
from tobogganing.commands.registering import Numbered, Registering
from tobogganing.local.errors import LocalError
from tobogganing.local.progress import Progress, counted
from tobogganing.pace import stop_on_signals

EXIT_INTERRUPTED = 130


@dataclass
class Import:
    """One import. `credentials` is None for stdout."""

    access: Access
    file: str
    format: Format
    credentials: Path | None
    connections: int

    def check(self, source: BinaryIO) -> Check:
        """Look through the file, and ask for the clusters that it names and does not hold.

        Raises:
            LocalError: there is a bad line, or no gateway, or not the right ADMIN_TOKEN.
        """
        found = check(read_fleet(source, self.format))
        if not found.bad_count:
            with self.access.manager() as manager:
                manager.ask("GET", "/api/v1/clusters", query={"limit": "1"})
                for cluster_id, number in found.foreign.items():
                    if manager.find(f"/api/v1/clusters/{cluster_id}") is None:
                        problem = f"{cluster_id} is neither in this file nor registered"
                        found.refuse(BadLine(number, f"cluster_id: {problem}"))
        for line in found.bad:
            note(f"{self.file}:{line.number}: {line.fault}")
        if found.bad_count:
            plural = "s" if found.bad_count > 1 else ""
            raise LocalError(f"{found.bad_count:,} bad line{plural}: nothing was registered")
        return found

    def register(self, source: BinaryIO, total: int) -> tuple[Outcome, list[str]]:
        """Register everything; what became of it, and who has no key in the file of credentials.

        Raises:
            LocalError: the keys cannot be written.
        """
        target, token = Target.of(self.access.url), self.access.token()
        as_csv = self.credentials is not None and self.credentials.suffix.lower() == ".csv"
        with KeyFile(self.credentials, "csv" if as_csv else "ndjson") as keys:
            with (
                Progress("registered", total, sys.stderr, counted) as progress,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                started = time.monotonic()
                outcome = Outcome(total)
                registering = Registering(target, token, keys, outcome, progress.add)
                runner.run(self._register(registering, source))
                outcome.seconds = time.monotonic() - started
            holders = keys.holders() if self.credentials and outcome.before else outcome.before
            return outcome, outcome.without_key(frozenset(holders))

    async def _register(self, registering: Registering, source: BinaryIO) -> None:
        stop_on_signals(registering.stop)
        for kinds in (KINDS[:1], KINDS[1:]):
            entries = _only(kinds, read_fleet(source, self.format))
            await registering.run(entries, min(self.connections, registering.outcome.total))


def _only(kinds: Iterable[str], lines: Iterable[Line]) -> Iterator[Numbered]:
    for line in lines:
        # Bad lines are those of a file that has changed since it was checked.
        if not isinstance(line, BadLine) and line[1].kind in kinds and not fault(line[1]):
            yield line


def main(
    access: Access,
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
        outcome, without_key = job.register(source, found.counts.total())
    for line in outcome.lines(without_key):
        note(line)
    if as_json:
        show(outcome.document(without_key), as_json)
    if outcome.fault:
        raise LocalError(outcome.fault)
    if outcome.left:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if outcome.is_good else 1)
