"""Registering many entries, many in a request, so that no key is lost on the way."""

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from contract.registry import CLUSTER
from tobogganing.api_client.session import ManagerApi, ManagerUnreachableError
from tobogganing.backoff import backoff, stopped_before
from tobogganing.fleet_import.fleet_entry import FleetEntry
from tobogganing.fleet_import.import_report import ImportReport
from tobogganing.fleet_import.key_file import KeyFile
from tobogganing.fleet_import.pending_keys import PendingKeys

PATH = "/api/v1/registrations"
CHUNK = 500
"""Entries in one request; a gateway takes 2,000."""
ATTEMPTS = 12

Numbered = tuple[int, FleetEntry]


class BulkRegistration:
    """Registers entries; setting `stop` ends it once what is under way has been answered.

    `holders` names those whose keys are in the file of credentials already.
    """

    def __init__(
        self,
        api: ManagerApi,
        admin_token: str,
        keys: KeyFile,
        pending: PendingKeys,
        holders: Collection[str],
        report: ImportReport,
        on_done: Callable[[int], None],
    ) -> None:
        self.report = report
        self.stop = asyncio.Event()
        self._api = api
        self._admin_token = admin_token
        self._keys = keys
        self._pending = pending
        self._holders = holders
        self._on_done = on_done

    async def run(self, entries: Iterable[Numbered], connections: int) -> None:
        """Register them all, in any order."""
        chunks = _chunks(entries)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._work(chunks))

    async def _work(self, chunks: Iterator[list[Numbered]]) -> None:
        for chunk in chunks:
            if self.stop.is_set():
                return
            await self._register(chunk)

    async def _register(self, left: list[Numbered]) -> None:
        try:
            keys = self._pending.prepare([entry for _, entry in left])
        except OSError as error:
            self._end(f"keys could not be written down: {error}")
            return
        is_unsure, last = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            lines = b"".join(_line(entry, keys.get(entry.key)) for _, entry in left)
            try:
                response = await self._api.post_lines(PATH, lines, self._admin_token)
            except ManagerUnreachableError as error:
                is_unsure, last = True, str(error)
            else:
                if response.status == 200 and len(response.lines) == len(left):
                    left = self._answered(left, response.lines)
                    if not left:
                        return
                    is_unsure, last = True, "Kafka did not confirm it in time"
                elif response.status in (408, 429, 503):
                    is_unsure = is_unsure or response.status == 503
                    last, retry_after = str(response), response.retry_after
                else:
                    self._end(_fault(response.status, str(response)))
                    break
            if await stopped_before(self.stop, time.monotonic() + backoff(attempt, retry_after)):
                break
        else:
            self._end(f"{left[0][1].key} was tried {ATTEMPTS} times; at last: {last}")
        if is_unsure:
            self.report.unconfirmed += [entry.key for _, entry in left]

    def _answered(self, chunk: list[Numbered], lines: Iterable[dict[str, Any]]) -> list[Numbered]:
        """Take note of responses; return the entries that are to be sent again."""
        again = []
        for (number, entry), line in zip(chunk, lines, strict=True):
            match line.get("status"):
                case "registered" if entry.key in self._holders:
                    self.report.already_registered.append(entry.key)
                case "registered":
                    self._registered(entry, line)
                case "exists":
                    self.report.already_registered.append(entry.key)
                case "unconfirmed":
                    again.append((number, entry))
                case _:
                    self.report.refuse(number, str(line.get("error") or line))
        self._on_done(len(chunk) - len(again))
        return again

    def _registered(self, entry: FleetEntry, line: dict[str, Any]) -> None:
        if entry.kind != CLUSTER:
            try:
                self._keys.write(entry, str(line["api_key"]))
            except (OSError, KeyError) as error:
                self.report.lost.append(entry.key)
                self._end(f"a key could not be written down: {error}")
                return
        self.report.registered[entry.kind] += 1

    def _end(self, why: str) -> None:
        self.report.fault = self.report.fault or why
        self.stop.set()


def _chunks(entries: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    left = iter(entries)
    while chunk := list(itertools.islice(left, CHUNK)):
        yield chunk


def _line(entry: FleetEntry, api_key: str | None) -> bytes:
    more = {} if api_key is None else {"api_key": api_key}
    return msgspec.json.encode(msgspec.to_builtins(entry) | more) + b"\n"


def _fault(status: int, text: str) -> str:
    if status == 401:
        return "the ADMIN_TOKEN is refused (401)"
    if status in (404, 405):
        return f"the gateway does not register many at once ({status}): update it"
    return f"the gateway answered {text}"
