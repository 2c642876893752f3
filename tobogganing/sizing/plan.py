"""The capacity plan: instances, cores, memory and disk for a fleet, with reasons. Pure.

At most half of the cores are busy when a part has lost an instance: a fleet that returns after an
outage submits all at once, and a machine is not always as fast as during the measurement.
"""

from dataclasses import dataclass, field

from tobogganing.sizing.components import (
    PlannedComponent,
    PlannedFleet,
    brokers,
    edges,
    exporters,
    gateways,
    processors,
    shards,
)
from tobogganing.sizing.constants import (
    FEWEST_PARTITIONS,
    PACKED_FRAME_BYTES,
    PACKED_SUBMISSION_BYTES,
    REPLICATION,
    ROW_BYTES,
    SPREAD,
    SUBMISSION_BYTES,
)
from tobogganing.sizing.figures import SCRAPE_BYTES


@dataclass(frozen=True)
class CapacityPlan:
    """Rates are per second, sizes in bytes."""

    fleet: PlannedFleet
    partitions: int
    shards: int
    parts: tuple[PlannedComponent, ...] = field(repr=False)
    agent_bytes: float
    broker_bytes: float
    """Writes into each broker, from all services."""
    scrape_bytes: float
    """A compressed scrape of the whole fleet."""
    why_partitions: str = ""

    def part(self, name: str) -> PlannedComponent:
        return next(part for part in self.parts if part.name == name)

    @property
    def cores(self) -> int:
        return sum(part.number * part.cores for part in self.parts)

    @property
    def memory(self) -> float:
        return sum(part.number * part.memory for part in self.parts)

    @property
    def disk(self) -> float:
        return sum(part.number * part.disk for part in self.parts)


def plan(fleet: PlannedFleet) -> CapacityPlan:
    """Plan for a fleet. More clients or submissions never need less."""
    number = shards(fleet)
    partitions = FEWEST_PARTITIONS
    while partitions < SPREAD * max(number, processors(fleet, partitions).working):
        partitions *= 2
    frames = fleet.rate / fleet.frame(partitions)
    stored = fleet.rate * PACKED_SUBMISSION_BYTES + frames * PACKED_FRAME_BYTES
    changed = fleet.rate * ROW_BYTES
    broker = brokers(fleet, partitions, stored, changed)
    return CapacityPlan(
        fleet=fleet,
        partitions=partitions,
        shards=number,
        parts=(
            edges(fleet),
            gateways(fleet),
            processors(fleet, partitions),
            exporters(fleet, number),
            broker,
        ),
        agent_bytes=fleet.rate * SUBMISSION_BYTES,
        broker_bytes=REPLICATION * (stored + changed) / broker.number,
        scrape_bytes=fleet.entities * SCRAPE_BYTES,
        why_partitions=f"{SPREAD} for each working processor and each shard, "
        f"at least {FEWEST_PARTITIONS}",
    )
