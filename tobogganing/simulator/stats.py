"""Statistics of simulated reports: counts, latencies, last receipts. Pure."""

import math
from collections import Counter
from dataclasses import dataclass, field

from contract.position import Receipt

EXPECTED = frozenset({200, 429, 503})
"""Statuses that a gateway may return for a correct report."""
SHOWN = 5
"""Unexpected responses that the summary lists; the others are only counted."""


class Latencies:
    """Quantiles of durations in seconds, within 5 %, in bounded memory."""

    _SMALLEST = 1e-5
    _STEP = math.log(1.05)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self._buckets[math.ceil(math.log(max(seconds, self._SMALLEST)) / self._STEP)] += 1

    def quantile(self, share: float) -> float:
        """The duration that this share (0 to 1) did not exceed; 0 without durations."""
        rank = share * self._buckets.total()
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(math.exp(bucket * self._STEP), self.longest)
        return 0.0


@dataclass
class Stats:
    responses: Counter[int] = field(default_factory=Counter)
    """Responses by status."""
    unreachable: int = 0
    """Reports without a response."""
    given_up: int = 0
    """Reports that were not accepted before the next one of their entity was due."""
    unexpected: list[str] = field(default_factory=list)
    unexpected_count: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    """Of all responses."""
    receipts: dict[int, Receipt] = field(default_factory=dict)
    """The last receipt of each partition."""

    @property
    def accepted(self) -> int:
        return self.responses[200]

    @property
    def refused(self) -> int:
        return self.responses.total() - self.accepted

    @property
    def is_good(self) -> bool:
        """Whether every response was expected and every report was accepted in time."""
        return not self.unexpected_count and not self.given_up and self.accepted > 0

    def record_response(self, status: int, seconds: float) -> None:
        self.responses[status] += 1
        self.latencies.add(seconds)

    def note_unexpected(self, what: str) -> None:
        self.unexpected_count += 1
        if len(self.unexpected) < SHOWN:
            self.unexpected.append(what)

    def accepted_as(self, receipt: Receipt) -> None:
        last = self.receipts.get(receipt.partition, receipt)
        self.receipts[receipt.partition] = max(last, receipt, key=_age)

    def line(self, before: int, seconds: float, latencies: Latencies) -> str:
        """A line of progress: the rate since `before` were accepted, and `latencies`."""
        return (
            f"{(self.accepted - before) / seconds:,.0f}/s  accepted {self.accepted:,}"
            f"  refused {self.refused:,}  no response {self.unreachable:,}"
            f"  p50 {latencies.quantile(0.5) * 1000:.1f} ms"
            f"  p99 {latencies.quantile(0.99) * 1000:.1f} ms"
        )

    def summary(self, seconds: float) -> str:
        """All statistics, in a few lines."""
        statuses = "  ".join(f"{status}: {n:,}" for status, n in sorted(self.responses.items()))
        quantiles = "  ".join(
            f"p{100 * share:g} {self.latencies.quantile(share) * 1000:.1f} ms"
            for share in (0.5, 0.9, 0.99)
        )
        receipts = " ".join(str(receipt) for _, receipt in sorted(self.receipts.items()))
        lines = [
            f"accepted       {self.accepted:,} in {seconds:.1f} s"
            f" ({self.accepted / max(seconds, 0.001):,.1f}/s)",
            f"by status      {statuses or 'none'}",
            f"no response    {self.unreachable:,}",
            f"given up       {self.given_up:,}",
            f"latency        {quantiles}  max {self.latencies.longest * 1000:.1f} ms",
            f"last receipts  {receipts or 'none'}",
        ]
        if self.unexpected_count:
            lines.append(f"unexpected     {self.unexpected_count:,}, the first of them:")
            lines += [f"  {what}" for what in self.unexpected]
        return "\n".join(lines)


def _age(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.appended, receipt.offset, receipt.index
