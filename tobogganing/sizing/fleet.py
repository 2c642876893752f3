"""The fleet that is planned for: how many report how often, and how their reports travel. Pure."""

from dataclasses import dataclass

from contract.kinds import CLIENT, HEADEND


@dataclass(frozen=True)
class PlannedFleet:
    """Intervals are in seconds; `batch` is the size of relays' batches, 1: each posts itself."""

    clients: int
    interval: float
    headends: int
    headend_interval: float
    batch: int = 1

    @property
    def entities(self) -> int:
        return self.clients + self.headends

    @property
    def rate(self) -> float:
        """Submissions a second."""
        return self.clients / self.interval + self.headends / self.headend_interval

    @property
    def requests(self) -> float:
        """Requests a second."""
        return self.rate / self.batch

    @property
    def series(self) -> int:
        """Series that a scrape of the fleet shows."""
        return self.clients * len(CLIENT.families) + self.headends * len(HEADEND.families)

    def frame(self, partitions: int) -> float:
        """Submissions in a frame, at least: a batch is spread over the partitions."""
        return max(1.0, self.batch / partitions)
