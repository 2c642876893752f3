"""How much each run does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchPlan:
    """Sizes of one run. Counts are submissions, unless they say otherwise."""

    rounds: int
    """Measured rounds; figures are their medians."""
    singles: int
    """One by one, a round and target."""
    batched: int
    """In batches, a round and target."""
    clients: int
    headends: int
    scraped_clients: int
    rate: int
    """Submissions a second, end to end."""
    seconds: int
    end_to_end_clients: int
    sizes: tuple[int, ...]
    """Fleets of the growing pipeline, none: not measured."""
    processor: tuple[tuple[str, ...], ...]
    """Arguments of each run of bench.processor."""
    exporter: tuple[tuple[str, ...], ...]
    """Arguments of each run of bench.exporter."""
    fleet_rates: tuple[int, ...] = ()
    """Rates of clients that post one by one, in submissions a second; none: not measured."""
    fleet_seconds: float = 5.0
    fleet_rounds: int = 1
    baseline: bool = False
    """Also measure such clients with the version before they shared frames."""
    recovered: int = 0
    """Rows of a worker that is killed and started again, none: not measured."""
    peers: bool = True
    checking_pushgateway: bool = False
    """Also measure a Pushgateway that checks pushes, as it does by default."""
    more_partitions: bool = True
    """Also measure a gateway of 12 partitions."""


def _processor(workers: int, frame: int, entities: int, submissions: int) -> tuple[str, ...]:
    return (
        f"--workers={workers}",
        f"--frame={frame}",
        f"--entities={entities}",
        f"--submissions={submissions}",
    )


def _exporter(clients: int, rows: int) -> tuple[str, ...]:
    return (f"--clients={clients}", f"--rows={rows}")


WHOLE = BenchPlan(
    rounds=5,
    singles=6_000,
    batched=150_000,
    clients=10_000,
    headends=1_000,
    scraped_clients=100_000,
    rate=20_000,
    seconds=120,
    end_to_end_clients=100_000,
    sizes=(10_000, 100_000, 1_000_000),
    processor=(
        _processor(1, 1, 20_000, 60_000),
        _processor(1, 50, 200_000, 400_000),
        _processor(2, 50, 200_000, 400_000),
        _processor(1, 500, 200_000, 400_000),
    ),
    exporter=(_exporter(100_000, 1_000_000),),
    fleet_rates=(0, 100, 300, 1000),
    fleet_rounds=3,
    baseline=True,
    recovered=500_000,
    checking_pushgateway=True,
)
QUICK = BenchPlan(
    rounds=2,
    singles=6_000,
    batched=100_000,
    clients=5_000,
    headends=200,
    scraped_clients=10_000,
    rate=5_000,
    seconds=12,
    end_to_end_clients=10_000,
    sizes=(1_000, 10_000, 30_000),
    processor=(_processor(1, 1, 20_000, 40_000), _processor(1, 50, 20_000, 100_000)),
    exporter=(_exporter(10_000, 50_000),),
    fleet_rates=(300,),
    more_partitions=False,
)
SMALLEST = BenchPlan(
    rounds=1,
    singles=300,
    batched=1_000,
    clients=600,
    headends=10,
    scraped_clients=300,
    rate=1_000,
    seconds=2,
    end_to_end_clients=2_000,
    sizes=(),
    processor=(),
    exporter=(),
    fleet_rates=(100,),
    fleet_seconds=1.0,
    peers=False,
    more_partitions=False,
)
