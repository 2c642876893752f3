"""The offsets and metadata that the group's commits should have, until a commit succeeds.

No worker starts from a commit, but gateways read its metadata and reject submissions to a partition
that it marks as stopped.
"""

import threading
from collections.abc import Iterable, Mapping

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from contract.history import STOPPED_METADATA

MAX_METADATA = 1_000
"""Maximum length of a committed offset's metadata in characters; brokers reject 4,096 bytes."""

Commits = dict[TP, OffsetAndMetadata]


class WantedCommits:
    """The newest wanted commit of each partition. Thread-safe.

    A stopped partition stays stopped, whatever offset is acknowledged, until `resume`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: Commits = {}
        self._stopped: set[TP] = set()

    def acknowledge(self, offsets: Mapping[TP, int]) -> None:
        """Set the offsets that Faust has acknowledged."""
        with self._lock:
            for tp, offset in offsets.items():
                if tp not in self._stopped:
                    self._pending[tp] = OffsetAndMetadata(offset, "")

    def resume(self, offsets: Mapping[TP, int]) -> None:
        """Set these offsets, of partitions that are no longer stopped."""
        with self._lock:
            self._stopped -= offsets.keys()
            self._pending |= {tp: OffsetAndMetadata(at, "") for tp, at in offsets.items()}

    def stop(self, tp: TP, offset: int, reason: str) -> None:
        """Set a commit that tells gateways why a partition is stopped (gateway.produce.stopped)."""
        with self._lock:
            self._stopped.add(tp)
            self._pending[tp] = OffsetAndMetadata(
                offset, (STOPPED_METADATA + reason)[:MAX_METADATA]
            )

    def pending(self, assigned: Iterable[TP]) -> Commits:
        """Return what is not committed yet of the assigned partitions; forget all others."""
        with self._lock:
            mine = set(assigned)
            self._stopped &= mine
            self._pending = {tp: each for tp, each in self._pending.items() if tp in mine}
            return dict(self._pending)

    def committed(self, commits: Commits) -> None:
        """Forget what Kafka now has, unless a newer commit is wanted."""
        with self._lock:
            for tp, each in commits.items():
                if self._pending.get(tp) is each:
                    del self._pending[tp]

    def __bool__(self) -> bool:
        return bool(self._pending)
