"""Registration of many entries, many in a request, in which no key is lost."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from contract.registry import CLUSTER
from tobogganing.api_client.session import ManagerApi, ManagerUnreachableError
from tobogganing.backoff import backoff, stopped_before
from tobogganing.fleet_import.fleet_entry import COLLECTIONS, SHOWN, BadLine, FleetEntry
from tobogganing.fleet_import.pending_keys import PendingKeys

PATH = "/api/v1/registrations"
CHUNK = 500
"""Entries in one request; a gateway accepts 2,000."""
ATTEMPTS = 12
NAMED = 5
"""Entries that one line of a report names."""

Numbered = tuple[int, FleetEntry]


@dataclass
class ImportReport:
    """The outcome of an import; entries are named `kind:id`."""

    total: int
    registered: Counter[str] = field(default_factory=Counter)
    """Newly registered entries by kind."""
    already_registered: list[str] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    """Perhaps registered by an attempt without a response; the key is unknown."""
    lost: list[str] = field(default_factory=list)
    """Registered, but the key could not be written."""
    refused: list[BadLine] = field(default_factory=list)
    refused_count: int = 0
    fault: str = ""
    """Why the import ended early, if it did."""
    seconds: float = 0.0

    @property
    def remaining(self) -> int:
        """Entries without an outcome."""
        named = (self.already_registered, self.unconfirmed, self.lost)
        known = self.registered.total() + self.refused_count + sum(map(len, named))
        return self.total - known

    @property
    def is_good(self) -> bool:
        """Whether every entry is registered and every new key is written."""
        return not (self.remaining or self.refused_count or self.unconfirmed or self.lost)

    def refuse(self, number: int, response: str) -> None:
        self.refused_count += 1
        if len(self.refused) < SHOWN:
            self.refused.append(BadLine(number, response))

    def without_key(self, holders: Collection[str]) -> list[str]:
        """The entries registered before that are not among `holders`; clusters have no keys."""
        return [
            key
            for key in self.already_registered
            if key not in holders and not key.startswith(f"{CLUSTER}:")
        ]

    def document(self, without_key: Sequence[str]) -> dict[str, Any]:
        return {
            "registered": {
                collection: self.registered[kind] for kind, collection in COLLECTIONS.items()
            },
            "registered_before": len(self.already_registered),
            "without_key": without_key,
            "unsure": self.unconfirmed,
            "lost": self.lost,
            "refused": self.refused_count,
            "left": self.remaining,
            "seconds": round(self.seconds, 1),
        }

    def lines(self, without_key: Sequence[str]) -> Iterator[str]:
        """The report as text."""
        count = self.registered.total()
        rate = count / max(self.seconds, 0.001)
        yield f"registered {count:,} of {self.total:,} in {self.seconds:.1f} s ({rate:,.0f}/s)"
        if self.already_registered:
            yield f"registered before: {len(self.already_registered):,}"
        if without_key:
            yield f"registered before, without a key in the file: {_named(without_key)}"
        if self.unconfirmed:
            yield f"perhaps registered, with an unknown key: {_named(self.unconfirmed)}"
        if self.lost:
            yield f"registered, but the key is lost: {_named(self.lost)}"
        if without_key or self.unconfirmed or self.lost:
            yield "`tobogganing clients rotate ID` and `headends rotate ID` issue new keys"
        for number, response in self.refused:
            yield f"refused, line {number}: {response}"
        if self.refused_count > len(self.refused):
            yield f"refused: {self.refused_count:,} in total"
        if self.remaining:
            yield f"left: {self.remaining:,}; run the same command again to register them"


def _named(keys: Sequence[str]) -> str:
    more = "" if len(keys) <= NAMED else ", …"
    return f"{len(keys):,} ({', '.join(keys[:NAMED])}{more})"


class KeyWriter(Protocol):
    def write(self, entry: FleetEntry, api_key: str) -> None:
        """Store a key.

        Raises:
            OSError: it could not be stored.
        """


class BulkRegistration:
    """Registers entries; after `stop` is set it completes the requests in flight and ends.

    `holders` names those whose keys are in the file of credentials already.
    """

    def __init__(
        self,
        api: ManagerApi,
        admin_token: str,
        keys: KeyWriter,
        pending: PendingKeys,
        holders: Collection[str],
        report: ImportReport,
        on_done: Callable[[int], None],
        stop: asyncio.Event | None = None,
    ) -> None:
        self.report = report
        self.stop = stop or asyncio.Event()
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
            self._end(f"keys could not be written: {error}")
            return
        may_be_registered, last = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = 0.0
            lines = b"".join(_line(entry, keys.get(entry.key)) for _, entry in left)
            try:
                response = await self._api.post_lines(PATH, lines, self._admin_token)
            except ManagerUnreachableError as error:
                may_be_registered, last = True, str(error)
            else:
                if response.status == 200 and len(response.lines) == len(left):
                    left = self._answered(left, response.lines)
                    if not left:
                        return
                    may_be_registered, last = True, "Kafka did not confirm it in time"
                elif response.status in (408, 429, 503):
                    may_be_registered = may_be_registered or response.status == 503
                    last, retry_after = str(response), response.retry_after
                else:
                    self._end(_fault(response.status, str(response)))
                    break
            if await stopped_before(self.stop, time.monotonic() + backoff(attempt, retry_after)):
                break
        else:
            self._end(f"{left[0][1].key} failed {ATTEMPTS} times, last with: {last}")
        if may_be_registered:
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
                self._end(f"a key could not be written: {error}")
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
    return f"the gateway responded {text}"
