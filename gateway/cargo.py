"""Cargo: the items of one batch, on their way to their partitions."""

import asyncio
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.kinds import KINDS
from contract.position import Receipt
from gateway.bodies import MAX_IGNORED_NAMES, Body
from gateway.decoding import BodyError
from gateway.envelopes import Envelopes
from gateway.items import Item
from gateway.lane import grouped
from gateway.metrics import Result
from gateway.publish import OverloadedError, Publisher

AT_A_TIME = 500
"""Items that are looked at before other requests get their turn: a few ms."""


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


class Cargo:
    """Sorts items by partition, publishes them, and knows what became of each.

    `scope` holds the ids that may be submitted for, None if all may. `receipts` are in the order of
    the items, None for those that were not accepted.
    """

    def __init__(
        self,
        items: Sequence[Item],
        scope: frozenset[str] | None,
        envelopes: Envelopes,
        now: Callable[[], float],
    ) -> None:
        self._items = items
        self._scope = scope
        self._envelopes = envelopes
        self._now = now
        self._loaded: dict[int, _Loaded] = defaultdict(_Loaded)
        self._rejected: list[Rejected] = []
        self._failed: Counter[tuple[str, Result]] = Counter()
        self.unknown: list[int] = []
        """Places of items whose entities are not registered, as far as is known here."""
        self._strangers: set[tuple[str, str | None]] = set()
        """Those entities: what comes of one later in the batch does not go before that."""
        self.receipts: list[str | None] = [None] * len(items)
        self.ignored: dict[str, None] = {}
        """Names of unknown metrics, at most MAX_IGNORED_NAMES of them."""
        self.ignored_count = 0
        self.retry_after = 1
        """Seconds after which those that are to be sent again may be."""

    async def sort(self) -> None:
        """Find out where each item belongs."""
        await self._sort_all(range(len(self._items)))

    async def _sort_all(self, places: Sequence[int]) -> None:
        for start in range(0, len(places), AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            self._sort(places[start : start + AT_A_TIME])

    def _sort(self, places: Iterable[int]) -> None:
        """The same for the items in some places. It runs a million times a minute."""
        items, scope, now = self._items, self._scope, self._now()
        find, loaded, strangers = self._envelopes.find, self._loaded, self._strangers
        for place in places:
            item: Any = items[place]
            if item.fault:
                self._reject(place, item.fault)
                continue
            if scope is not None and item.id not in scope:
                self._reject(place, f"the {item.kind} is not in the scope of this relay")
                continue
            envelope = find(item.kind, item.id)
            if envelope is None or (strangers and (item.kind, item.id) in strangers):
                strangers.add((item.kind, item.id))
                self.unknown.append(place)
                continue
            body = item.body
            try:
                if body is None:
                    piece = envelope.around_plain(item, now)
                else:
                    piece = envelope.around(body)
                    if body.ignored_count:
                        self._ignore(body)
            except BodyError as error:
                self._reject(place, str(error))
                continue
            load = loaded[envelope.partition]
            load.places.append(place)
            load.pieces.append(piece)

    def _ignore(self, body: Body) -> None:
        self.ignored_count += body.ignored_count
        for name in body.ignored:
            if len(self.ignored) >= MAX_IGNORED_NAMES:
                break
            self.ignored[name] = None

    async def look_again(self) -> None:
        """Sort what was unknown, now that the registry has been read to its end."""
        unknown, self.unknown = self.unknown, []
        self._strangers.clear()
        await self._sort_all(unknown)
        for place in self.unknown:
            self._reject(place, f"the {self._items[place].kind} is not registered")

    def leave_unknown(self, error: str, result: Result) -> None:
        """Reject what is unknown: the registry cannot be read, or the relay is refused since."""
        for place in self.unknown:
            self._reject(place, error, result)

    def publish(self, publisher: Publisher, deadline: float, publishing: asyncio.TaskGroup) -> None:
        """Publish what was sorted since; what became of it is known when `publishing` has ended."""
        loaded, self._loaded = self._loaded, defaultdict(_Loaded)
        for partition, load in loaded.items():
            publishing.create_task(self._publish(publisher, partition, load, deadline))

    def rejected(self) -> list[Rejected]:
        """What was not accepted, in the order of the items."""
        return sorted(self._rejected, key=_index)

    def counts(self) -> dict[tuple[str, Result], int]:
        """How many items of each kind came to what."""
        counts: dict[tuple[str, Result], int] = dict(self._failed)
        items = Counter(map(_kind, self._items))
        for kind in KINDS:
            failed = sum(count for (name, _), count in self._failed.items() if name == kind)
            counts[kind, "received"] = items[kind] - failed
        return counts

    async def _publish(
        self, publisher: Publisher, partition: int, load: _Loaded, deadline: float
    ) -> None:
        """Publish the submissions of one partition, in groups that fit frames.

        Each waits for the one before it. Behind one that was not confirmed nothing is sent: who
        sends that again would otherwise put older values behind newer ones.
        """
        loop, receipts = asyncio.get_running_loop(), self.receipts
        start = 0
        for pieces, count in grouped(load.pieces):
            answer: asyncio.Future[Receipt | None] = loop.create_future()
            try:
                publisher.queue(partition, pieces, deadline, answer, count)
            except OverloadedError as error:
                self.retry_after = error.retry_after
                for place in load.places[start:]:
                    self._reject(place, "too many submissions wait for Kafka", "overloaded")
                return
            first = await answer
            if first is None:
                for place in load.places[start:]:
                    self._reject(place, "Kafka did not confirm it in time", "unconfirmed")
                return
            end = start + count
            before, after = f"{first.partition}-{first.offset}-", f"-{first.appended}"
            for index, place in enumerate(load.places[start:end], first.index):
                receipts[place] = f"{before}{index}{after}"
            start = end

    def _reject(self, place: int, error: str, result: Result = "refused") -> None:
        item = self._items[place]
        self._rejected.append(Rejected(place, item.id, error, retry=result != "refused"))
        if item.kind in KINDS:
            self._failed[item.kind, result] += 1


_kind = operator.attrgetter("kind")


def _index(rejected: Rejected) -> int:
    return rejected.index
