"""The plan: how many of each part a fleet needs, how large each is, and why. Pure.

At most half of the cores are busy when the busiest part has lost an instance: a fleet that comes
back after an outage reports all at once, and a machine is not always as fast as when it was
measured.
"""

import math
from dataclasses import dataclass, field

from contract.topics import DAY_MS, SEGMENT_BYTES, declare_topics
from tobogganing.sizing import figures as f
from tobogganing.sizing.fleet import PlannedFleet

BUSY = 0.5
"""Share of its cores that an instance uses at most, with one instance of its kind lost."""
ROOM = 1.25
"""Memory that is given for what is expected to be used."""
DISK_FULL = 0.7
"""Share of a broker's disk that is used at most."""
UNEVEN = 1.25
"""The fullest processor has so many times the mean: partitions are whole."""
SPREAD = 4
"""Partitions for each processor and shard, at least: for UNEVEN, and to grow."""
FEWEST_PARTITIONS = 12
SHARD_ENTITIES = 300_000
"""What one exporter shows at most: a scrape of so many takes little over a second."""
SCRAPE_SECONDS = 15
EDGE_CORES = 4
"""Of an edge, at most."""
EDGE_MEMORY = 1e9
"""For the 50,000 connections that deploy/edge allows, and their buffers; not measured."""
BROKERS, REPLICATION = 3, 3
BROKER_CORES, BROKER_DISK = 8, 4e12
"""What a broker has at most; beyond it there are more brokers."""
BROKER_MEMORY = 1.5e9
CACHED_SECONDS = 300
"""A broker's memory holds what was written in so long, so that whoever reads it needs no disk."""


@dataclass(frozen=True)
class PlannedComponent:
    """`number` instances of `cores` cores, `memory` and `disk` bytes each.

    `load` is what all of them have to do, in cores, while `working` of them do it: those that are
    left when one is lost.
    """

    name: str
    number: int
    cores: int
    memory: float
    load: float
    working: int
    why: str
    disk: float = 0.0

    @property
    def busy(self) -> float:
        """Share of its cores that each of those left uses."""
        return self.load / (self.working * self.cores)


@dataclass(frozen=True)
class CapacityPlan:
    """Rates are a second; bytes are bytes."""

    fleet: PlannedFleet
    partitions: int
    shards: int
    parts: tuple[PlannedComponent, ...] = field(repr=False)
    agent_bytes: float
    broker_bytes: float
    """What each broker takes in, from gateways, processors and the others."""
    scrape_bytes: float
    """A scrape of the whole fleet, compressed."""
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
    """What a fleet needs. More clients, or more reports, never need less."""
    shards = _shards(fleet)
    partitions = FEWEST_PARTITIONS
    while partitions < SPREAD * max(shards, _processors(fleet, partitions).working):
        partitions *= 2
    frames = fleet.rate / fleet.frame(partitions)
    stored = fleet.rate * f.SUBMISSION_BYTES + frames * f.FRAME_BYTES
    changed = fleet.rate * f.ROW_BYTES
    brokers = _brokers(fleet, partitions, stored, changed)
    return CapacityPlan(
        fleet=fleet,
        partitions=partitions,
        shards=shards,
        parts=(
            _edges(fleet),
            _gateways(fleet),
            _processors(fleet, partitions),
            _exporters(fleet, shards),
            brokers,
        ),
        agent_bytes=fleet.rate * f.SUBMISSION_BYTES,
        broker_bytes=REPLICATION * (stored + changed) / brokers.number,
        scrape_bytes=fleet.entities * f.SCRAPE_BYTES.value,
        why_partitions=f"{SPREAD} for each processor that works and each shard, "
        f"at least {FEWEST_PARTITIONS}",
    )


def _instances(load: float, cores: int = 1) -> int:
    """Instances that carry a load, in cores, each of them busy to at most BUSY."""
    return max(1, math.ceil(load / (BUSY * cores)))


def _edges(fleet: PlannedFleet) -> PlannedComponent:
    cost = f.EDGE_ALONE.value if fleet.batch == 1 else f.EDGE_BATCH.value
    load = fleet.requests * cost / 1e6
    cores = min(EDGE_CORES, _instances(load))
    working = _instances(load, cores)
    why = f"{_number(fleet.requests)} requests/s x {cost:,.0f} µs{_new(fleet)}, TLS"
    return PlannedComponent("edge", working + 1, cores, EDGE_MEMORY, load, working, why)


def _gateways(fleet: PlannedFleet) -> PlannedComponent:
    if fleet.batch == 1:
        load = fleet.rate * f.GATEWAY_ALONE.value / 1e6
        cost = f"{_number(fleet.rate)} requests/s x {f.GATEWAY_ALONE.value:,.0f} µs{_new(fleet)}"
    else:
        batches, items = f.GATEWAY_BATCH.value, f.GATEWAY_ITEM.value
        load = (fleet.requests * batches + fleet.rate * items) / 1e6
        cost = (
            f"{_number(fleet.requests)} batches/s x {batches:,.0f} µs "
            f"+ {_number(fleet.rate)} submissions/s x {items:,.1f} µs"
        )
    memory = ROOM * (f.GATEWAY_BASE + fleet.entities * f.GATEWAY_ENTITY)
    working = _instances(load)
    why = f"{cost}; each knows the whole registry"
    return PlannedComponent("gateway", working + 1, 1, memory, load, working, why)


def _number(value: float) -> str:
    """Three digits, or whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _new(fleet: PlannedFleet) -> str:
    return ", each a new connection" if fleet.batch == 1 else ""


def _processors(fleet: PlannedFleet, partitions: int) -> PlannedComponent:
    frame = fleet.frame(partitions)
    cost = f.PROCESSOR_FRAME.value / frame + f.PROCESSOR_ITEM.value
    load = UNEVEN * fleet.rate * cost / 1e6
    working = _instances(load)
    share = UNEVEN * fleet.entities / working
    memory = ROOM * (f.PROCESSOR_BASE + share * f.PROCESSOR_ENTITY)
    why = (
        f"{_number(fleet.rate)} submissions/s x {cost:,.0f} µs in frames of {_number(frame)}, "
        f"a quarter more for the fullest"
    )
    return PlannedComponent("processor", working + 1, 1, memory, load, working, why)


def _exporters(fleet: PlannedFleet, shards: int) -> PlannedComponent:
    shown = fleet.entities / shards
    load = (
        fleet.rate * f.EXPORTER_ITEM.value
        + fleet.entities * f.EXPORTER_SHOWN.value / SCRAPE_SECONDS
    ) / 1e6
    memory = ROOM * (
        f.EXPORTER_BASE + shown * f.EXPORTER_ENTITY + fleet.entities * f.EXPORTER_REGISTERED
    )
    why = (
        f"two of each shard, one of which is scraped; {shown:,.0f} entities a shard, at most "
        f"{SHARD_ENTITIES:,}"
    )
    cores = math.ceil(load / shards / BUSY)
    return PlannedComponent("exporter", 2 * shards, max(1, cores), memory, load, shards, why)


def _shards(fleet: PlannedFleet) -> int:
    """Shards, by entities and by changed rows; of numbers that divide any number of partitions."""
    load = (
        fleet.rate * f.EXPORTER_ITEM.value
        + fleet.entities * f.EXPORTER_SHOWN.value / SCRAPE_SECONDS
    ) / 1e6
    least = max(math.ceil(fleet.entities / SHARD_ENTITIES), _instances(load), 1)
    power = 1
    while True:
        for number in (power, 3 * power // 2):
            if number >= least:
                return number
        power *= 2


def _brokers(
    fleet: PlannedFleet, partitions: int, stored: float, changed: float
) -> PlannedComponent:
    frame = fleet.frame(partitions)
    cost = f.KAFKA_FRAME.value / frame + f.KAFKA_ITEM.value
    load = fleet.rate * cost / 1e6 * REPLICATION
    kept = declare_topics("", partitions).submissions.settings["retention.ms"]
    seconds = int(kept) / 1000
    state = partitions * 2 * SEGMENT_BYTES + 2 * fleet.entities * (f.ROW_BYTES + f.REGISTRY_BYTES)
    disk = REPLICATION * (stored * seconds + state) / DISK_FULL
    number = max(
        BROKERS,
        1 + _instances(load, BROKER_CORES),
        math.ceil(disk / BROKER_DISK),
    )
    cores = math.ceil(load / (number - 1) / BUSY)
    written = REPLICATION * (stored + changed) / number
    why = (
        f"{_number(fleet.rate)} submissions/s x {cost:,.0f} µs, as much again for each replica; "
        f"{seconds * 1000 / DAY_MS:.0f} days of {stored * seconds / 1e9:,.0f} GB x {REPLICATION}, "
        f"disks {DISK_FULL:.0%} full"
    )
    return PlannedComponent(
        "broker",
        number,
        max(1, cores),
        BROKER_MEMORY + CACHED_SECONDS * written,
        load,
        number - 1,
        why,
        disk=disk / number,
    )
