"""The sizes of a run."""

from dataclasses import dataclass

from bench.open_loop_driver import LOADS, Load
from bench.processor import ProcessorCase


@dataclass(frozen=True)
class BenchPlan:
    """Counts are submissions, unless they say otherwise; 0 or () leaves a measurement out."""

    rounds: int
    """Measured rounds; the figures are their medians."""
    singles: int
    """Submissions in requests of their own, for each round and target."""
    batched: int
    """In batches, for each round and target."""
    clients: int
    headends: int
    scraped_clients: int
    scraped_rows: int
    rate: int
    """Submissions a second, end to end."""
    seconds: int
    end_to_end_clients: int
    sizes: tuple[int, ...] = ()
    """Fleets of the growing pipeline."""
    processor: tuple[ProcessorCase, ...] = ()
    fleet_loads: tuple[Load, ...] = ()
    """Loads of clients that post one by one."""
    fleet_seconds: float = 5.0
    fleet_rounds: int = 1
    fleet_peers: bool = False
    """Also measure the peers under some of these loads."""
    baseline: bool = False
    """Also measure such clients with the version before they shared frames."""
    recovered: int = 0
    """Rows of the killed worker."""
    peers: bool = True
    checking_pushgateway: bool = False
    """Also a Pushgateway with consistency checks, its default."""
    more_partitions: bool = False
    """Also a gateway of 12 partitions."""


WHOLE = BenchPlan(
    rounds=5,
    singles=6_000,
    batched=150_000,
    clients=10_000,
    headends=1_000,
    scraped_clients=100_000,
    scraped_rows=1_000_000,
    rate=20_000,
    seconds=120,
    end_to_end_clients=100_000,
    sizes=(10_000, 100_000, 1_000_000),
    processor=(
        ProcessorCase(1, 1, 20_000, 60_000),
        ProcessorCase(1, 50, 200_000, 400_000),
        ProcessorCase(2, 50, 200_000, 400_000),
        ProcessorCase(1, 500, 200_000, 400_000),
    ),
    fleet_loads=LOADS,
    fleet_rounds=3,
    fleet_peers=True,
    baseline=True,
    recovered=500_000,
    checking_pushgateway=True,
    more_partitions=True,
)
QUICK = BenchPlan(
    rounds=2,
    singles=6_000,
    batched=100_000,
    clients=5_000,
    headends=200,
    scraped_clients=10_000,
    scraped_rows=50_000,
    rate=5_000,
    seconds=12,
    end_to_end_clients=10_000,
    sizes=(1_000, 10_000, 30_000),
    processor=(ProcessorCase(1, 1, 20_000, 40_000), ProcessorCase(1, 50, 20_000, 100_000)),
    fleet_loads=(Load(300), Load(300, "new", edge=True)),
    recovered=20_000,
)
SMALLEST = BenchPlan(
    rounds=1,
    singles=300,
    batched=1_000,
    clients=600,
    headends=10,
    scraped_clients=300,
    scraped_rows=600,
    rate=1_000,
    seconds=2,
    end_to_end_clients=2_000,
    fleet_loads=(Load(100, "new"),),
    fleet_seconds=1.0,
    peers=False,
)
