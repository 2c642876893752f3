"""The gate of totals: they are shown once they cover the submissions at the exporter's start."""

from collections.abc import Mapping

from contract.ledger import LedgerRow
from exporter.state.source_lag import SourceLagMonitor


class TotalsGate:
    """Opens once the ledgers cover the end offsets that `submissions` had at the start, and stays
    open.

    In a power cut, `entity-state` may lose its end; workers then write the same rows again. Totals
    shown before that would be lower than earlier ones, which Prometheus would interpret as a
    counter reset.
    """

    def __init__(self, ledgers: Mapping[int, LedgerRow], source: SourceLagMonitor) -> None:
        self._ledgers = ledgers
        self._source = source
        self._is_open = False

    def partitions_behind(self) -> int:
        """Return the number of partitions that keep it closed."""
        if self._is_open:
            return 0
        ends = self._source.ends_at_start()
        if ends is None:
            return len(self._ledgers)
        behind = sum(self._ledgers[p].next_offset < end for p, end in ends.items())
        self._is_open = behind == 0
        return behind
