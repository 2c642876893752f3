"""Routes the items of one batch to their partitions, and collects the results."""

import asyncio
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.kinds import KINDS
from contract.position import Receipt
from gateway.body.json import MAX_IGNORED_NAMES, BodyError
from gateway.ingest.batch_decoder import Item
from gateway.ingest.decoder import ParsedBody
from gateway.ingest.encoder import TemplateCache
from gateway.metrics import Result
from gateway.produce.batcher import OverloadedError, SubmissionBatcher
from gateway.produce.frame_limits import chunk_for_frames

ITEMS_PER_SLICE = 500
"""Items that are routed before other requests are served: a few milliseconds."""


class RejectedItem(msgspec.Struct, omit_defaults=True):
    """A rejected item; with `retry`, the same item may be accepted later."""

    index: Annotated[int, Meta(description="Its index in the batch, from 0.")]
    id: str | None
    error: str
    retry: bool = False


class PartitionGroup:
    """The items for one partition: their indexes and encoded submissions."""

    __slots__ = ("item_indexes", "payloads")

    def __init__(self) -> None:
        self.item_indexes: list[int] = []
        self.payloads: list[bytes] = []


class RoutedBatch:
    """Routes items to partitions, publishes them, and keeps the result of each.

    `scope` contains the ids that the relay may submit for; None means all. `receipts` are in the
    order of the items, with None for rejected items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        scope: frozenset[str] | None,
        templates: TemplateCache,
        now: Callable[[], float],
    ) -> None:
        self._items = items
        self._scope = scope
        self._templates = templates
        self._now = now
        self._groups: dict[int, PartitionGroup] = defaultdict(PartitionGroup)
        self._rejected: list[RejectedItem] = []
        self._failed: Counter[tuple[str, Result]] = Counter()
        self.unregistered: list[int] = []
        """Indexes of items whose entities are not in the registry as it was last read."""
        self._unregistered_entities: set[tuple[str, str | None]] = set()
        """The entities of those items; a later item of such an entity must not overtake an earlier
        one."""
        self.receipts: list[str | None] = [None] * len(items)
        self.ignored: dict[str, None] = {}
        """Names of unknown metrics, at most MAX_IGNORED_NAMES."""
        self.ignored_count = 0
        self.retry_after = 1
        """Seconds after which rejected items may be sent again."""

    async def route(self) -> None:
        """Route all items."""
        await self._route_all(range(len(self._items)))

    async def _route_all(self, indexes: Sequence[int]) -> None:
        for start in range(0, len(indexes), ITEMS_PER_SLICE):
            if start:
                await asyncio.sleep(0)
            self._route(indexes[start : start + ITEMS_PER_SLICE])

    def _route(self, indexes: Iterable[int]) -> None:
        """Route the items at some indexes. Runs up to a million times a minute."""
        items, scope, now = self._items, self._scope, self._now()
        find, groups, unregistered = self._templates.find, self._groups, self._unregistered_entities
        for index in indexes:
            item: Any = items[index]
            if item.fault:
                self._reject(index, item.fault)
                continue
            if scope is not None and item.id not in scope:
                self._reject(index, f"the {item.kind} is not in the scope of this relay")
                continue
            template = find(item.kind, item.id)
            if template is None or (unregistered and (item.kind, item.id) in unregistered):
                unregistered.add((item.kind, item.id))
                self.unregistered.append(index)
                continue
            body = item.body
            try:
                if body is None:
                    payload = template.encode_canonical(item, now)
                else:
                    payload = template.encode_parsed(body)
                    if body.ignored_count:
                        self._ignore(body)
            except BodyError as error:
                self._reject(index, str(error))
                continue
            group = groups[template.partition]
            group.item_indexes.append(index)
            group.payloads.append(payload)

    def _ignore(self, body: ParsedBody) -> None:
        self.ignored_count += body.ignored_count
        for name in body.ignored:
            if len(self.ignored) >= MAX_IGNORED_NAMES:
                break
            self.ignored[name] = None

    async def retry_unregistered(self) -> None:
        """Route the unregistered items again, after the registry was read to its end."""
        unregistered, self.unregistered = self.unregistered, []
        self._unregistered_entities.clear()
        await self._route_all(unregistered)
        for index in self.unregistered:
            self._reject(index, f"the {self._items[index].kind} is not registered")

    def reject_unregistered(self, error: str, result: Result) -> None:
        """Reject the unregistered items: the registry cannot be read, or the relay is no longer
        valid."""
        for index in self.unregistered:
            self._reject(index, error, result)

    def publish(
        self, batcher: SubmissionBatcher, deadline: float, tasks: asyncio.TaskGroup
    ) -> None:
        """Publish the routed items; the results are complete when `tasks` has ended."""
        groups, self._groups = self._groups, defaultdict(PartitionGroup)
        for partition, group in groups.items():
            tasks.create_task(self._publish(batcher, partition, group, deadline))

    def rejected(self) -> list[RejectedItem]:
        """Return the rejected items, in the order of the batch."""
        return sorted(self._rejected, key=_index)

    def refused_entities(self, limit: int) -> list[tuple[str, str, str, bool]]:
        """Return kind, id and error of at most `limit` refused items, and whether their entity is
        in the scope."""
        refused: list[tuple[str, str, str, bool]] = []
        for each in self._rejected:
            if len(refused) == limit:
                break
            kind = self._items[each.index].kind
            if each.id is not None and kind in KINDS and not each.retry:
                in_scope = self._scope is None or each.id in self._scope
                refused.append((kind, each.id, each.error, in_scope))
        return refused

    def result_counts(self) -> dict[tuple[str, Result], int]:
        """Return the number of items by kind and result."""
        counts: dict[tuple[str, Result], int] = dict(self._failed)
        items = Counter(map(_kind, self._items))
        for kind in KINDS:
            failed = sum(count for (name, _), count in self._failed.items() if name == kind)
            counts[kind, "received"] = items[kind] - failed
        return counts

    async def _publish(
        self, batcher: SubmissionBatcher, partition: int, group: PartitionGroup, deadline: float
    ) -> None:
        """Publish the submissions of one partition, in groups that fit frames.

        Each group waits for the group before it. After an unconfirmed group nothing more is sent,
        so that sending the unconfirmed items again cannot put older values after newer ones.
        """
        loop, receipts = asyncio.get_running_loop(), self.receipts
        start = 0
        for payloads, count in chunk_for_frames(group.payloads):
            completion: asyncio.Future[Receipt | None] = loop.create_future()
            try:
                batcher.enqueue(partition, payloads, deadline, completion, count)
            except OverloadedError as error:
                self.retry_after = error.retry_after
                for index in group.item_indexes[start:]:
                    self._reject(index, "too many submissions are waiting for Kafka", "overloaded")
                return
            first = await completion
            if first is None:
                for index in group.item_indexes[start:]:
                    self._reject(index, "Kafka did not confirm the item in time", "unconfirmed")
                return
            end = start + count
            before, after = f"{first.partition}-{first.offset}-", f"-{first.appended}"
            for frame_index, index in enumerate(group.item_indexes[start:end], first.index):
                receipts[index] = f"{before}{frame_index}{after}"
            start = end

    def _reject(self, index: int, error: str, result: Result = "refused") -> None:
        item = self._items[index]
        self._rejected.append(RejectedItem(index, item.id, error, retry=result != "refused"))
        if item.kind in KINDS:
            self._failed[item.kind, result] += 1


_kind = operator.attrgetter("kind")


def _index(rejected: RejectedItem) -> int:
    return rejected.index
