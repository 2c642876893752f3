"""What the group's committed offsets should say, kept until a commit with it has succeeded.

Nothing continues from a commit, but gateways read its metadata: they refuse submissions to a
partition that it calls stopped.
"""

import threading
from collections.abc import Iterable, Mapping

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from contract.history import STOPPED_METADATA

MAX_METADATA = 1_000
"""Characters of a committed offset's metadata; brokers refuse more than 4,096 bytes."""

Commits = dict[TP, OffsetAndMetadata]


class WantedCommits:
    """The newest wanted commit of each partition. Safe to use from any thread.

    A partition stays stopped, whatever offset is acknowledged of it, until `resume`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: Commits = {}
        self._stopped: set[TP] = set()

    def acknowledge(self, offsets: Mapping[TP, int]) -> None:
        """Want the offsets that Faust has acknowledged."""
        with self._lock:
            for tp, offset in offsets.items():
                if tp not in self._stopped:
                    self._pending[tp] = OffsetAndMetadata(offset, "")

    def resume(self, offsets: Mapping[TP, int]) -> None:
        """Want these offsets, of partitions that are not stopped any more."""
        with self._lock:
            self._stopped -= offsets.keys()
            self._pending |= {tp: OffsetAndMetadata(at, "") for tp, at in offsets.items()}

    def stop(self, tp: TP, offset: int, reason: str) -> None:
        """Want a commit that tells gateways why a partition is stopped
        (gateway.produce.stopped)."""
        with self._lock:
            self._stopped.add(tp)
            self._pending[tp] = OffsetAndMetadata(
                offset, (STOPPED_METADATA + reason)[:MAX_METADATA]
            )

    def pending(self, assigned: Iterable[TP]) -> Commits:
        """What is not committed yet of partitions that this worker has; forgets all others."""
        with self._lock:
            mine = set(assigned)
            self._stopped &= mine
            self._pending = {tp: each for tp, each in self._pending.items() if tp in mine}
            return dict(self._pending)

    def committed(self, commits: Commits) -> None:
        """Forget what Kafka has now, unless something else is wanted since."""
        with self._lock:
            for tp, each in commits.items():
                if self._pending.get(tp) is each:
                    del self._pending[tp]

    def __bool__(self) -> bool:
        return bool(self._pending)
