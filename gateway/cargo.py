"""Cargo: the items of one batch, on their way to their partitions."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.frame import entity_key
from contract.kinds import KINDS
from contract.position import Receipt
from contract.registry import RegistryRecord, RegistryState
from gateway.decoding import BodyError
from gateway.envelopes import Envelopes
from gateway.items import Item
from gateway.lane import grouped
from gateway.metrics import Result
from gateway.publish import OverloadedError, Publisher

AT_A_TIME = 500
"""Items that are looked at before other requests get their turn: a few ms."""

_Answer = asyncio.Future[Receipt | None]


class Rejected(msgspec.Struct, omit_defaults=True):
    """An item that was not accepted; with `retry`, sending it again may help."""

    index: Annotated[int, Meta(description="Its place in the batch, from 0.")]
    id: str | None
    error: str
    retry: bool = False


class _Loaded:
    """What goes to one partition: the places of items, and their submissions."""

    __slots__ = ("pieces", "places")

    def __init__(self) -> None:
        self.places: list[int] = []
        self.pieces: list[bytes] = []

    def in_order(self) -> "_Loaded":
        """The same by place: what was unknown at first came later."""
        ordered = _Loaded()
        ordered.places = sorted(self.places)
        pieces = dict(zip(self.places, self.pieces, strict=True))
        ordered.pieces = [pieces[place] for place in ordered.places]
        return ordered


class Cargo:
    """Sorts items by partition, publishes them, and knows what became of each.

    `scope` holds the ids that may be submitted for, None if all may. `receipts` are in the order of
    the items, None for those that were not accepted.
    """

    def __init__(
        self,
        items: Sequence[Item],
        scope: frozenset[str] | None,
        state: RegistryState,
        envelopes: Envelopes,
    ) -> None:
        self._items = items
        self._scope = scope
        self._state = state
        self._envelopes = envelopes
        self._loaded: dict[int, _Loaded] = {}
        self._rejected: list[Rejected] = []
        self._failed: Counter[tuple[str, Result]] = Counter()
        self.unknown: list[int] = []
        """Places of items whose entities are not registered, as far as is known here."""
        self.receipts: list[str | None] = [None] * len(items)
        self.ignored: set[str] = set()
        self.ignored_count = 0

    async def sort(self) -> None:
        """Find out where each item belongs."""
        get, scope, now = self._state.get, self._scope, time.time()
        for place, item in enumerate(self._items):
            if item.fault:
                self._reject(place, item.fault)
            elif scope is not None and item.id not in scope:
                self._reject(place, f"the {item.kind} is not in the scope of this relay")
            elif (record := get(entity_key(item.kind, item.id or ""))) is not None:
                self._load(place, item, record, now)
            else:
                self.unknown.append(place)
            if place % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)

    def look_again(self) -> None:
        """Sort what was unknown, now that the registry has been read to its end."""
        for place in self.unknown:
            item = self._items[place]
            record = self._state.get(entity_key(item.kind, item.id or ""))
            if record is None:
                self._reject(place, f"the {item.kind} is not registered")
            else:
                self._load(place, item, record, time.time())
        self._loaded = {number: loaded.in_order() for number, loaded in self._loaded.items()}

    def leave_unknown(self, error: str) -> None:
        """Reject what is unknown, since the registry could not be read."""
        for place in self.unknown:
            self._reject(place, error, "unconfirmed")

    async def publish(self, publisher: Publisher, deadline: float) -> None:
        """Publish what was sorted, and wait for the fate of all of it."""
        sent = [
            group
            for partition, loaded in self._loaded.items()
            for group in self._queue(publisher, partition, loaded, deadline)
        ]
        receipts = self.receipts
        for places, answer in sent:
            first = await answer
            if first is None:
                for place in places:
                    self._reject(place, "Kafka did not confirm it in time", "unconfirmed")
                continue
            start = f"{first.partition}-{first.offset}-"
            for index, place in enumerate(places, first.index):
                receipts[place] = f"{start}{index}"

    def rejected(self) -> list[Rejected]:
        """What was not accepted, in the order of the items."""
        return sorted(self._rejected, key=_index)

    def counts(self) -> dict[tuple[str, Result], int]:
        """How many items of each kind came to what."""
        counts: dict[tuple[str, Result], int] = dict(self._failed)
        for kind in KINDS:
            failed = sum(count for (name, _), count in counts.items() if name == kind)
            items = sum(1 for item in self._items if item.kind == kind)
            counts[kind, "received"] = items - failed
        return counts

    def _load(self, place: int, item: Any, record: RegistryRecord, now: float) -> None:
        envelope = self._envelopes.of(record)
        body = item.body
        if body is None:
            try:
                piece = envelope.around_plain(item, now)
            except BodyError as error:
                self._reject(place, str(error))
                return
        else:
            self.ignored.update(body.ignored)
            self.ignored_count += body.ignored_count
            piece = envelope.around(body)
        loaded = self._loaded.get(envelope.partition)
        if loaded is None:
            loaded = self._loaded[envelope.partition] = _Loaded()
        loaded.places.append(place)
        loaded.pieces.append(piece)

    def _queue(
        self, publisher: Publisher, partition: int, loaded: _Loaded, deadline: float
    ) -> list[tuple[list[int], _Answer]]:
        """Queue the submissions of one partition, in groups that fit frames."""
        loop = asyncio.get_running_loop()
        sent: list[tuple[list[int], _Answer]] = []
        start = 0
        for pieces, count in grouped(loaded.pieces):
            places = loaded.places[start : start + count]
            start += count
            answer: _Answer = loop.create_future()
            try:
                publisher.queue(partition, pieces, deadline, answer, count)
            except OverloadedError:
                for place in places:
                    self._reject(place, "too many submissions wait for Kafka", "overloaded")
            else:
                sent.append((places, answer))
        return sent

    def _reject(self, place: int, error: str, result: Result = "refused") -> None:
        item = self._items[place]
        self._rejected.append(Rejected(place, item.id, error, retry=result != "refused"))
        if item.kind in KINDS:
            self._failed[item.kind, result] += 1


def _index(rejected: Rejected) -> int:
    return rejected.index
