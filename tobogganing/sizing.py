"""The capacity plan: instances, cores, memory and disk for a fleet, with reasons. Pure.

At most half of the cores are busy when a part has lost an instance: a fleet that returns after an
outage submits all at once, and a machine is not always as fast as during the measurement.
"""

import math
from dataclasses import dataclass, field

from contract.kinds import CLIENT, HEADEND
from contract.topics import SEGMENT_BYTES, SUBMISSIONS_RETENTION_HOURS
from tobogganing.sizing_figures import (
    EDGE_BATCH,
    EDGE_KEPT,
    EDGE_NEW,
    EXPORTER_ALONE,
    EXPORTER_ITEM,
    EXPORTER_SHOWN,
    GATEWAY_ALONE,
    GATEWAY_BATCH,
    GATEWAY_ITEM,
    KAFKA_ALONE,
    KAFKA_ITEM,
    PROCESSOR_ALONE,
    PROCESSOR_ITEM,
    SCRAPE_BYTES,
)

LINGER_SECONDS = 0.1
"""How often a gateway under load sends the frames of all partitions (LINGER_MS)."""
ALONE_FRAME = 1_000 * LINGER_SECONDS / 12
"""Submissions in a frame when `*_ALONE` was measured: 1,000 a second, 12 partitions."""
KAFKA_FRAME = max(0.0, KAFKA_ALONE - KAFKA_ITEM) * ALONE_FRAME
PROCESSOR_FRAME = max(0.0, PROCESSOR_ALONE - PROCESSOR_ITEM) * ALONE_FRAME
"""A frame, apart from the submissions in it, in microseconds of CPU time."""

# Memory of a process in bytes: the base, and each entity that it knows.
GATEWAY_BASE, GATEWAY_ENTITY = 63_000_000, 1_000
"""Half of it is the registry, the other half is prepared for each entity that submits."""
PROCESSOR_BASE, PROCESSOR_ENTITY = 60_000_000, 1_500
EXPORTER_BASE, EXPORTER_ENTITY, EXPORTER_REGISTERED = 62_000_000, 1_000, 600

# Bytes in Kafka, for a client that sends all metrics.
SUBMISSION_BYTES = 286
"""As an agent sends it, and as it is in a frame before compression."""
PACKED_SUBMISSION_BYTES, PACKED_FRAME_BYTES = 40, 290
"""Each submission of a compressed frame, and the rest of the frame, as a record batch of its
own."""
ROW_BYTES = 421
"""A row of `entity-state` as a record batch of its own."""
REGISTRY_BYTES = 300

BUSY = 0.5
"""Largest share of its cores that an instance uses with one of its kind lost."""
MEMORY_RESERVE = 1.25
DISK_FULL = 0.7
"""Largest share of a broker's disk in use."""
UNEVEN = 1.25
"""Load of the fullest processor, as a multiple of the mean: partitions are not divided."""
SPREAD = 4
"""Least number of partitions for each processor and shard."""
FEWEST_PARTITIONS = 12
SHARD_ENTITIES = 300_000
"""Most entities of one exporter: a scrape of them takes little over a second."""
SCRAPE_SECONDS = 15
EDGE_CORES = 4
"""Most cores of an edge."""
EDGE_BASE, EDGE_CONNECTION = 0.1e9, 17_000
"""Memory of an edge in bytes: its base, and each idle connection with TLS
(`python -m bench.idle_connections`)."""
EDGE_CONNECTIONS = 150_000
"""Most connections of an edge, as deploy/edge allows."""
REQUEST_SECONDS = 1.0
"""How long a connection is open that is new for each request."""
BROKERS, REPLICATION = 3, 3
BROKER_CORES, BROKER_DISK = 8, 4e12
"""Limits of one broker; beyond them there are more brokers."""
BROKER_MEMORY = 1.5e9
CACHED_SECONDS = 300
"""Seconds of writes that a broker's memory holds, so that readers need no disk."""


@dataclass(frozen=True)
class PlannedFleet:
    """Intervals in seconds; `batch` is the size of a relay's batches, 1 without relays.

    With `keeps_connections` each client and headend keeps its connection between two submissions.
    """

    clients: int
    interval: float
    headends: int
    headend_interval: float
    batch: int = 1
    keeps_connections: bool = False

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
        """Series in a scrape of the fleet."""
        return self.clients * len(CLIENT.families) + self.headends * len(HEADEND.families)

    @property
    def connections(self) -> float:
        """Connections to the edges."""
        if self.batch == 1 and self.keeps_connections:
            return self.entities
        return self.requests * REQUEST_SECONDS

    def frames(self, partitions: int) -> float:
        """Frames a second, at most.

        A batch is divided among the partitions. A gateway sends at most one frame of a partition
        in each window; of gateways there are those that remain when one is lost.
        """
        windows = _gateways(self).working * partitions / LINGER_SECONDS
        return min(self.requests * min(self.batch, partitions), windows)

    def frame(self, partitions: int) -> float:
        """Submissions in a frame, at least."""
        return max(1.0, self.rate / self.frames(partitions))


@dataclass(frozen=True)
class PlannedComponent:
    """`number` instances with `cores` cores, `memory` and `disk` bytes each.

    `load` is the work of all of them in cores; `working` instances do it when one is lost.
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
        """Share of its cores that each working instance uses."""
        return self.load / (self.working * self.cores)


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
    shards = _shards(fleet)
    partitions = FEWEST_PARTITIONS
    while partitions < SPREAD * max(shards, _processors(fleet, partitions).working):
        partitions *= 2
    frames = fleet.rate / fleet.frame(partitions)
    stored = fleet.rate * PACKED_SUBMISSION_BYTES + frames * PACKED_FRAME_BYTES
    changed = fleet.rate * ROW_BYTES
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
        agent_bytes=fleet.rate * SUBMISSION_BYTES,
        broker_bytes=REPLICATION * (stored + changed) / brokers.number,
        scrape_bytes=fleet.entities * SCRAPE_BYTES,
        why_partitions=f"{SPREAD} for each working processor and each shard, "
        f"at least {FEWEST_PARTITIONS}",
    )


def _instances(load: float, cores: int = 1) -> int:
    return max(1, math.ceil(load / (BUSY * cores)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _edges(fleet: PlannedFleet) -> PlannedComponent:
    alone = EDGE_KEPT if fleet.keeps_connections else EDGE_NEW
    cost = alone if fleet.batch == 1 else EDGE_BATCH
    load = fleet.requests * cost / 1e6
    cores = min(EDGE_CORES, _instances(load))
    working = max(_instances(load, cores), math.ceil(fleet.connections / EDGE_CONNECTIONS))
    cores = min(cores, _instances(load / working))
    memory = MEMORY_RESERVE * (EDGE_BASE + fleet.connections / working * EDGE_CONNECTION)
    why = f"{_number(fleet.requests)} requests/s x {cost:,.0f} µs{_connections(fleet)}, TLS"
    if fleet.connections > 1:
        why += f"; {fleet.connections:,.0f} connections, at most {EDGE_CONNECTIONS:,} each"
    return PlannedComponent("edge", working + 1, cores, memory, load, working, why)


def _gateways(fleet: PlannedFleet) -> PlannedComponent:
    if fleet.batch == 1:
        load = fleet.rate * GATEWAY_ALONE / 1e6
        cost = f"{_number(fleet.rate)} requests/s x {GATEWAY_ALONE:,.0f} µs"
    else:
        load = (fleet.requests * GATEWAY_BATCH + fleet.rate * GATEWAY_ITEM) / 1e6
        cost = (
            f"{_number(fleet.requests)} batches/s x {GATEWAY_BATCH:,.0f} µs "
            f"+ {_number(fleet.rate)} submissions/s x {GATEWAY_ITEM:,.1f} µs"
        )
    memory = MEMORY_RESERVE * (GATEWAY_BASE + fleet.entities * GATEWAY_ENTITY)
    working = _instances(load)
    why = f"{cost}; each has the whole registry"
    return PlannedComponent("gateway", working + 1, 1, memory, load, working, why)


def _connections(fleet: PlannedFleet) -> str:
    if fleet.batch > 1:
        return ""
    return ", kept connections" if fleet.keeps_connections else ", each a new connection"


def _processors(fleet: PlannedFleet, partitions: int) -> PlannedComponent:
    frame = fleet.frame(partitions)
    cost = PROCESSOR_FRAME / frame + PROCESSOR_ITEM
    load = UNEVEN * fleet.rate * cost / 1e6
    working = _instances(load)
    share = UNEVEN * fleet.entities / working
    memory = MEMORY_RESERVE * (PROCESSOR_BASE + share * PROCESSOR_ENTITY)
    why = (
        f"{_number(fleet.rate)} submissions/s x {cost:,.0f} µs in frames of {_number(frame)}, "
        f"a quarter more for the fullest"
    )
    return PlannedComponent("processor", working + 1, 1, memory, load, working, why)


def _exporter_load(fleet: PlannedFleet) -> float:
    scraped = fleet.entities * EXPORTER_SHOWN / SCRAPE_SECONDS
    changed = EXPORTER_ALONE if fleet.batch == 1 else EXPORTER_ITEM
    return (fleet.rate * changed + scraped) / 1e6


def _exporters(fleet: PlannedFleet, shards: int) -> PlannedComponent:
    shown = fleet.entities / shards
    load = _exporter_load(fleet)
    used = EXPORTER_BASE + shown * EXPORTER_ENTITY + fleet.entities * EXPORTER_REGISTERED
    why = (
        f"two of each shard, one of which is scraped; {shown:,.0f} entities a shard, at most "
        f"{SHARD_ENTITIES:,}"
    )
    cores = max(1, math.ceil(load / shards / BUSY))
    memory = MEMORY_RESERVE * used
    return PlannedComponent("exporter", 2 * shards, cores, memory, load, shards, why)


def _shards(fleet: PlannedFleet) -> int:
    """Shards by entities and by changed rows: 2^n or 3 * 2^n, which divides all partitions."""
    least = max(math.ceil(fleet.entities / SHARD_ENTITIES), _instances(_exporter_load(fleet)))
    power = 1
    while True:
        for number in (power, 3 * power // 2):
            if number >= least:
                return number
        power *= 2


def _brokers(
    fleet: PlannedFleet, partitions: int, stored: float, changed: float
) -> PlannedComponent:
    cost = KAFKA_FRAME / fleet.frame(partitions) + KAFKA_ITEM
    load = fleet.rate * cost / 1e6 * REPLICATION
    seconds = SUBMISSIONS_RETENTION_HOURS * 3600
    state = partitions * 2 * SEGMENT_BYTES + 2 * fleet.entities * (ROW_BYTES + REGISTRY_BYTES)
    disk = REPLICATION * (stored * seconds + state) / DISK_FULL
    needed = (1 + _instances(load, BROKER_CORES), math.ceil(disk / BROKER_DISK))
    number = max(BROKERS, *needed)
    written = REPLICATION * (stored + changed) / number
    why = (
        f"{_number(fleet.rate)} submissions/s x {cost:,.0f} µs, as much again for each replica; "
        f"{SUBMISSIONS_RETENTION_HOURS} h of {stored * seconds / 1e9:,.0f} GB x {REPLICATION}, "
        f"disks {DISK_FULL:.0%} full"
    )
    return PlannedComponent(
        "broker",
        number,
        max(1, math.ceil(load / (number - 1) / BUSY)),
        BROKER_MEMORY + CACHED_SECONDS * written,
        load,
        number - 1,
        why,
        disk=disk / number,
    )
