"""Registering many entries over many connections, so that no key is lost on the way."""

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from contract.registry import CLUSTER
from tobogganing.api_client.session import ApiResponse, ManagerUnreachableError, NotConnectedError
from tobogganing.backoff import backoff, stopped_before
from tobogganing.fleet_import.connection import HttpTarget, KeepAliveConnection
from tobogganing.fleet_import.fleet_entry import COLLECTIONS, FleetEntry, registration_body
from tobogganing.fleet_import.import_report import ImportReport
from tobogganing.fleet_import.key_file import KeyFile

ATTEMPTS = 12

Numbered = tuple[int, FleetEntry]


class BulkRegistration:
    """Registers entries; setting `stop` ends it once what is under way has been answered."""

    def __init__(
        self,
        target: HttpTarget,
        admin_token: str,
        keys: KeyFile,
        report: ImportReport,
        on_done: Callable[[int], None],
    ) -> None:
        self.report = report
        self.stop = asyncio.Event()
        self._target = target
        self._admin_token = admin_token
        self._keys = keys
        self._on_done = on_done

    async def run(self, entries: Iterable[Numbered], connections: int) -> None:
        """Register them all, in any order."""
        left = iter(entries)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._work(left))

    async def _work(self, entries: Iterable[Numbered]) -> None:
        connection = KeepAliveConnection(self._target, self._admin_token)
        try:
            for number, entry in entries:
                if self.stop.is_set():
                    return
                await self._register(connection, number, entry)
        finally:
            connection.close()

    async def _register(
        self, connection: KeepAliveConnection, number: int, entry: FleetEntry
    ) -> None:
        path = f"/api/v1/{COLLECTIONS[entry.kind]}/register"
        body = msgspec.json.encode(registration_body(entry))
        is_unsure, last = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            try:
                response = await connection.post(path, body)
            except ManagerUnreachableError as error:
                is_unsure = is_unsure or not isinstance(error, NotConnectedError)
                last = str(error)
            else:
                if response.status not in (408, 429, 503):
                    self._answered(number, entry, response, is_unsure)
                    return
                is_unsure = is_unsure or response.status == 503
                last, retry_after = str(response), response.retry_after
            if await stopped_before(self.stop, time.monotonic() + backoff(attempt, retry_after)):
                break
        else:
            self._end(f"{entry.key} was tried {ATTEMPTS} times; at last: {last}")
        if is_unsure:
            self.report.unconfirmed.append(entry.key)

    def _answered(
        self, number: int, entry: FleetEntry, response: ApiResponse, is_unsure: bool
    ) -> None:
        if response.status == 200:
            self._registered(entry, response)
        elif response.status == 409:
            (self.report.unconfirmed if is_unsure else self.report.already_registered).append(
                entry.key
            )
        elif response.status == 401:
            self._end("the ADMIN_TOKEN is refused (401)")
            return
        else:
            self.report.refuse(number, str(response))
        self._on_done(1)

    def _registered(self, entry: FleetEntry, response: ApiResponse) -> None:
        if entry.kind != CLUSTER:
            try:
                self._keys.write(entry, str(response.body["api_key"]))
            except (OSError, KeyError) as error:
                self.report.lost.append(entry.key)
                self._end(f"a key could not be written down: {error}")
                return
        self.report.registered[entry.kind] += 1

    def _end(self, why: str) -> None:
        self.report.fault = self.report.fault or why
        self.stop.set()
