"""The gate of totals: they are shown once they cover what an exporter found when it started."""

from collections.abc import Mapping

from contract.row import LedgerRow
from exporter.state.source_lag import SourceLagMonitor


class TotalsGate:
    """Open once the ledgers cover what `submissions` held at the start; then for ever.

    `entity-state` may lose its end, in a power cut. Workers then write the same again, and totals
    that are shown before they have would be less than those of before: a reset to Prometheus.
    """

    def __init__(self, ledgers: Mapping[int, LedgerRow], source: SourceLagMonitor) -> None:
        self._ledgers = ledgers
        self._source = source
        self._is_open = False

    def partitions_behind(self) -> int:
        """Number of partitions that keep it closed."""
        if self._is_open:
            return 0
        ends = self._source.ends_at_start()
        if ends is None:
            return len(self._ledgers)
        behind = sum(self._ledgers[p].next_offset < end for p, end in ends.items())
        self._is_open = behind == 0
        return behind
