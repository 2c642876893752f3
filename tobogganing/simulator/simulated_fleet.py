"""A simulated fleet: what its clients and headends report, reproducible by seed. Pure.

Counters grow at each entity's own rate and start again after a restart. Some reports leave metrics
out, and some clients encode integers as floats, as real ones do.
"""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from contract.registry import CLUSTER
from tobogganing.fleet_import.fleet_entry import FleetEntry

CLIENT_TYPES = {"native": 0.55, "docker": 0.35, "mobile": 0.10}
"""Shares of the types of clients."""
HEADLESS = {"native": 0.1, "docker": 0.9, "mobile": 0.0}
RESTART = 1 / 300
"""Probability of a restart between two reports."""
PARTIAL = 0.08
"""Probability that a report leaves metrics out."""

REGIONS = {
    "us-east": ("ashburn", "atlanta"),
    "eu-central": ("frankfurt", "zürich"),
    "ap-south": ("mumbai",),
}

SIMULATED_AGENT = re.compile(r"sim-(client-\d{6,}|headend-\d{4,})(-[0-9a-f]{6}-\d)?")
"""Ids of simulated agents; those of a second simulation have a suffix."""

Number = int | float
Body = dict[str, Any]


@dataclass
class SimulatedCluster:
    id: str
    region: str
    datacenter: str

    def registration(self) -> FleetEntry:
        place = {"region": self.region, "datacenter": self.datacenter}
        return FleetEntry(CLUSTER, self.id, self.id, **place)


@dataclass(eq=False)
class SimulatedClient:
    kind = "client"
    id: str
    name: str
    type: str
    headless: bool
    rng: random.Random
    bytes_per_second: float
    counters: dict[str, int] = field(default_factory=dict)
    uptime: float = 0.0

    def registration(self) -> FleetEntry:
        return FleetEntry(self.kind, self.id, self.name, type=self.type)

    def report(self, seconds: float) -> Body:
        """The report `seconds` after the previous one."""
        if self.rng.random() < RESTART:
            self.counters, self.uptime = {}, 0.0
            seconds *= self.rng.random()
        self.uptime += seconds
        for direction, share in (("sent", 0.3), ("received", 1.0)):
            count = int(self.bytes_per_second * share * seconds * self.rng.expovariate(1.0))
            self._grow(f"bytes_{direction}", count)
            self._grow(f"packets_{direction}", count // 700 + 1)
        metrics: dict[str, Number] = dict(self.counters)
        if self.type == "native":  # as encoders of untyped maps do
            metrics = {name: float(value) for name, value in metrics.items()}
        metrics["connection_uptime"] = round(self.uptime, 2)
        return {"headless": self.headless, "metrics": _partial(self.rng, metrics)}

    def _grow(self, name: str, count: int) -> None:
        self.counters[name] = self.counters.get(name, 0) + count


@dataclass(eq=False)
class SimulatedHeadend:
    kind = "headend"
    id: str
    name: str
    cluster: SimulatedCluster
    rng: random.Random
    load: float
    """Share of its capacity, 0 to 1; a random walk."""

    def registration(self) -> FleetEntry:
        return FleetEntry(self.kind, self.id, self.name, cluster_id=self.cluster.id)

    def report(self, seconds: float) -> Body:
        """The report `seconds` after the previous one."""
        drift = self.rng.gauss(0.0, 0.02) * max(seconds, 0.1) ** 0.5
        self.load = min(0.98, max(0.02, self.load + drift))
        connections = int(2_000 * self.load)
        metrics: dict[str, Number] = {
            "active_connections": connections,
            "bandwidth_in": int(connections * 60_000 * self.rng.uniform(0.8, 1.2)),
            "bandwidth_out": int(connections * 200_000 * self.rng.uniform(0.8, 1.2)),
            "cpu_usage": round(100 * self.load * self.rng.uniform(0.9, 1.0), 1),
            "memory_usage": int(2**31 * (0.3 + 0.6 * self.load)),
        }
        return {"headend_name": self.name, "metrics": _partial(self.rng, metrics)}


Agent = SimulatedClient | SimulatedHeadend


def _partial(chance: random.Random, metrics: dict[str, Number]) -> dict[str, Number]:
    if chance.random() >= PARTIAL:
        return metrics
    return {name: value for name, value in metrics.items() if chance.random() < 0.6}


@dataclass
class SimulatedFleet:
    """The registered entities; the same seed gives the same fleet."""

    clusters: list[SimulatedCluster]
    clients: list[SimulatedClient]
    headends: list[SimulatedHeadend]


def is_simulated(kind: str, id: str) -> bool:
    """Whether the id is one that a simulation registers."""
    if kind == CLUSTER:
        return id in {each.id for each in simulated_clusters()}
    return id.startswith(f"sim-{kind}-") and SIMULATED_AGENT.fullmatch(id) is not None


def simulated_clusters() -> list[SimulatedCluster]:
    return [
        SimulatedCluster(f"sim-{region}-{n + 1}", region, datacenter)
        for region, datacenters in REGIONS.items()
        for n, datacenter in enumerate(datacenters)
    ]


def simulate_fleet(clients: int, headends: int, seed: int) -> SimulatedFleet:
    clusters = simulated_clusters()
    return SimulatedFleet(
        clusters=clusters if headends else [],
        clients=[_client(n, seed) for n in range(clients)],
        headends=[_headend(n, seed, clusters[n % len(clusters)]) for n in range(headends)],
    )


def _client(number: int, seed: int) -> SimulatedClient:
    chance = random.Random(f"client {number} of {seed}")
    type = chance.choices(list(CLIENT_TYPES), list(CLIENT_TYPES.values()))[0]
    return SimulatedClient(
        id=f"sim-client-{number:06d}",
        name=f"{type} client {number}",
        type=type,
        headless=chance.random() < HEADLESS[type],
        rng=chance,
        bytes_per_second=chance.lognormvariate(10.0, 1.5),
        uptime=chance.uniform(0, 86_400),
    )


def _headend(number: int, seed: int, cluster: SimulatedCluster) -> SimulatedHeadend:
    chance = random.Random(f"headend {number} of {seed}")
    return SimulatedHeadend(
        id=f"sim-headend-{number:04d}",
        name=f"headend-{cluster.region}-{number}",
        cluster=cluster,
        rng=chance,
        load=chance.uniform(0.1, 0.7),
    )
