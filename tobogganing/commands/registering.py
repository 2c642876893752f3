"""Registering many entries over many connections, so that no key is lost on the way."""

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from contract.registry import CLUSTER
from tobogganing.commands.connection import Connection, Target
from tobogganing.commands.entry import COLLECTIONS, Entry, registration
from tobogganing.commands.key_file import KeyFile
from tobogganing.commands.outcome import Outcome
from tobogganing.manager_api import Answer, NotConnectedError, UnreachableError
from tobogganing.pace import backoff, stopped_before

ATTEMPTS = 12

Numbered = tuple[int, Entry]


class Registering:
    """Registers entries; setting `stop` ends it once what is under way has been answered."""

    def __init__(
        self,
        target: Target,
        admin_token: str,
        keys: KeyFile,
        outcome: Outcome,
        on_done: Callable[[int], None],
    ) -> None:
        self.outcome = outcome
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
        connection = Connection(self._target, self._admin_token)
        try:
            for number, entry in entries:
                if self.stop.is_set():
                    return
                await self._register(connection, number, entry)
        finally:
            connection.close()

    async def _register(self, connection: Connection, number: int, entry: Entry) -> None:
        path = f"/api/v1/{COLLECTIONS[entry.kind]}/register"
        body = msgspec.json.encode(registration(entry))
        is_unsure, last = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            try:
                answer = await connection.post(path, body)
            except UnreachableError as error:
                is_unsure = is_unsure or not isinstance(error, NotConnectedError)
                last = str(error)
            else:
                if answer.status not in (408, 429, 503):
                    self._answered(number, entry, answer, is_unsure)
                    return
                is_unsure = is_unsure or answer.status == 503
                last, retry_after = str(answer), answer.retry_after
            if await stopped_before(self.stop, time.monotonic() + backoff(attempt, retry_after)):
                break
        else:
            self._end(f"{entry.key} was tried {ATTEMPTS} times; at last: {last}")
        if is_unsure:
            self.outcome.unsure.append(entry.key)

    def _answered(self, number: int, entry: Entry, answer: Answer, is_unsure: bool) -> None:
        if answer.status == 200:
            self._registered(entry, answer)
        elif answer.status == 409:
            (self.outcome.unsure if is_unsure else self.outcome.before).append(entry.key)
        elif answer.status == 401:
            self._end("the ADMIN_TOKEN is refused (401)")
            return
        else:
            self.outcome.refuse(number, str(answer))
        self._on_done(1)

    def _registered(self, entry: Entry, answer: Answer) -> None:
        if entry.kind != CLUSTER:
            try:
                self._keys.write(entry, str(answer.body["api_key"]))
            except (OSError, KeyError) as error:
                self.outcome.lost.append(entry.key)
                self._end(f"a key could not be written down: {error}")
                return
        self.outcome.registered[entry.kind] += 1

    def _end(self, why: str) -> None:
        self.outcome.fault = self.outcome.fault or why
        self.stop.set()
