"""The columns of values in a list, the same on the page and in CSV."""

from typing import NamedTuple

from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER


class ListColumn(NamedTuple):
    """A value of an entity's document, and how the page shows it."""

    source: str
    """`values` or `rates`, the latter per second since the previous report."""
    field: str
    heading: str
    format: str
    """See `exporter.checkins.words.value`."""

    @property
    def name(self) -> str:
        """Name in CSV."""
        return self.field + ("_per_second" if self.source == "rates" else "")


LIST_COLUMNS: dict[str, tuple[ListColumn, ...]] = {
    CLIENT.name: (
        ListColumn("values", "connection_uptime", "Uptime", "duration"),
        ListColumn("rates", "bytes_sent", "Sends", "byte rate"),
        ListColumn("rates", "bytes_received", "Receives", "byte rate"),
    ),
    HEADEND.name: (
        ListColumn("values", "cpu_usage", "CPU", "percent"),
        ListColumn("values", "active_connections", "Connections", "count"),
        ListColumn("values", "memory_usage", "Memory", "bytes"),
    ),
    CLUSTER: (),
}
"""By kind."""
