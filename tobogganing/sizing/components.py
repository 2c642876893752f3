"""What a fleet needs of each component of an installation. Pure."""

import math
from dataclasses import dataclass

from contract.kinds import CLIENT, HEADEND
from contract.topics import SEGMENT_BYTES, SUBMISSIONS_RETENTION_HOURS
from tobogganing.sizing.constants import (
    BROKER_CORES,
    BROKER_DISK,
    BROKER_MEMORY,
    BROKERS,
    BUSY,
    CACHED_SECONDS,
    DISK_FULL,
    EDGE_BASE,
    EDGE_CONNECTION,
    EDGE_CONNECTIONS,
    EDGE_CORES,
    EXPORTER_BASE,
    EXPORTER_ENTITY,
    EXPORTER_REGISTERED,
    GATEWAY_BASE,
    GATEWAY_ENTITY,
    KAFKA_FRAME,
    LINGER_SECONDS,
    MEMORY_RESERVE,
    PROCESSOR_BASE,
    PROCESSOR_ENTITY,
    PROCESSOR_FRAME,
    REGISTRY_BYTES,
    REPLICATION,
    REQUEST_SECONDS,
    ROW_BYTES,
    SCRAPE_SECONDS,
    SHARD_ENTITIES,
    UNEVEN,
)
from tobogganing.sizing.figures import (
    EDGE_BATCH,
    EDGE_KEPT,
    EDGE_NEW,
    EXPORTER_ALONE,
    EXPORTER_ITEM,
    EXPORTER_SHOWN,
    GATEWAY_ALONE,
    GATEWAY_BATCH,
    GATEWAY_ITEM,
    KAFKA_ITEM,
    PROCESSOR_ITEM,
)


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

        A batch is divided among the partitions. A gateway sends at most one frame of a partition in
        each window; the gateways are those that remain when one is lost.
        """
        windows = gateways(self).working * partitions / LINGER_SECONDS
        return min(self.requests * min(self.batch, partitions), windows)

    def frame(self, partitions: int) -> float:
        """Submissions in a frame, at least."""
        return max(1.0, self.rate / self.frames(partitions))


@dataclass(frozen=True)
class PlannedComponent:
    """`number` instances with `cores` cores, `memory` and `disk` bytes each.

    `load` is the work of all instances in cores; `working` instances do it when one is lost.
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


def _instances(load: float, cores: int = 1) -> int:
    return max(1, math.ceil(load / (BUSY * cores)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def edges(fleet: PlannedFleet) -> PlannedComponent:
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


def gateways(fleet: PlannedFleet) -> PlannedComponent:
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


def processors(fleet: PlannedFleet, partitions: int) -> PlannedComponent:
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


def exporters(fleet: PlannedFleet, shards: int) -> PlannedComponent:
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


def shards(fleet: PlannedFleet) -> int:
    """Shards by entities and by changed rows: 2^n or 3 * 2^n, which divides all partitions."""
    least = max(math.ceil(fleet.entities / SHARD_ENTITIES), _instances(_exporter_load(fleet)))
    power = 1
    while True:
        for number in (power, 3 * power // 2):
            if number >= least:
                return number
        power *= 2


def brokers(
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
