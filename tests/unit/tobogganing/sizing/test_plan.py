"""The properties of a capacity plan, for any fleet."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import CLIENT, HEADEND
from exporter.shard import Shard
from tobogganing.sizing import constants as f
from tobogganing.sizing.components import PlannedFleet
from tobogganing.sizing.constants import BUSY, SHARD_ENTITIES
from tobogganing.sizing.figures import GATEWAY_ALONE, PROCESSOR_ITEM
from tobogganing.sizing.plan import CapacityPlan, plan

fleets = st.builds(
    PlannedFleet,
    clients=st.integers(1, 5_000_000),
    interval=st.floats(1, 86_400),
    headends=st.integers(0, 20_000),
    headend_interval=st.floats(1, 3_600),
    batch=st.sampled_from([1, 2, 10, 500, 10_000]),
    keeps_connections=st.booleans(),
)
factors = st.floats(1, 10)


def sizes(found: CapacityPlan) -> list[float]:
    """The values that must not shrink when a fleet grows."""
    return [
        found.partitions,
        found.shards,
        *(part.number for part in found.parts),
        *(part.load for part in found.parts),
        found.disk,
    ]


@given(fleets)
def test_every_instance_fits_its_limits_with_one_lost(fleet: PlannedFleet) -> None:
    found = plan(fleet)
    for part in found.parts:
        assert part.number >= 2, "one instance can be lost"
        assert part.working < part.number
        assert part.cores >= 1
        assert part.memory > 0
        assert part.busy <= BUSY + 1e-9, part
    assert found.part("broker").number >= 3
    assert found.part("broker").disk <= 4e12


@given(fleets)
def test_partitions_suffice_for_processors_and_shards(fleet: PlannedFleet) -> None:
    found = plan(fleet)
    assert found.part("processor").number <= found.partitions
    assert found.shards <= found.partitions
    assert found.partitions % found.shards == 0, "all shards have the same number"
    assert Shard(found.shards, found.shards).partitions(found.partitions)
    assert found.part("exporter").number == 2 * found.shards
    assert fleet.entities / found.shards <= SHARD_ENTITIES


@given(fleets)
def test_the_fullest_processor_has_capacity_for_its_partitions(fleet: PlannedFleet) -> None:
    """Recomputed from whole partitions with their shares of the submissions."""
    found = plan(fleet)
    left = found.part("processor").number - 1
    owned = math.ceil(found.partitions / left)
    frame = fleet.frame(found.partitions)
    cost = (f.PROCESSOR_FRAME / frame + PROCESSOR_ITEM) / 1e6
    assert fleet.rate * cost * owned / found.partitions <= BUSY + 1e-9
    rows = fleet.entities * owned / found.partitions
    needed = f.PROCESSOR_BASE + rows * f.PROCESSOR_ENTITY
    assert needed <= found.part("processor").memory


@given(fleets)
def test_gateways_have_capacity_for_every_request(fleet: PlannedFleet) -> None:
    gateways = plan(fleet).part("gateway")
    needed = f.GATEWAY_BASE + fleet.entities * f.GATEWAY_ENTITY
    assert needed <= gateways.memory, "each has the whole registry"
    if fleet.batch == 1:
        assert fleet.rate * GATEWAY_ALONE / 1e6 <= BUSY * (gateways.number - 1) + 1e-9


@given(fleets)
def test_brokers_keep_all_submissions_of_three_days(fleet: PlannedFleet) -> None:
    found = plan(fleet)
    brokers = found.part("broker")
    frames = fleet.rate / fleet.frame(found.partitions)
    stored = fleet.rate * f.PACKED_SUBMISSION_BYTES + frames * f.PACKED_FRAME_BYTES
    assert brokers.number * brokers.disk >= 3 * 3 * 86_400 * stored


@given(fleets)
def test_frames_are_no_more_than_gateways_send(fleet: PlannedFleet) -> None:
    found = plan(fleet)
    frames = fleet.rate / fleet.frame(found.partitions)
    gateways = found.part("gateway").working
    assert frames <= gateways * found.partitions / f.LINGER_SECONDS + 1e-9
    assert frames <= fleet.requests * min(fleet.batch, found.partitions) * (1 + 1e-9)


@given(fleets)
def test_edges_have_capacity_for_every_connection(fleet: PlannedFleet) -> None:
    edges = plan(fleet).part("edge")
    assert fleet.connections <= edges.working * f.EDGE_CONNECTIONS
    assert edges.memory >= fleet.connections / edges.working * f.EDGE_CONNECTION


@given(fleets)
def test_kept_connections_need_no_more_cpu_time(fleet: PlannedFleet) -> None:
    kept, new = (plan(replace(fleet, keeps_connections=kept)) for kept in (True, False))
    for part in kept.parts:
        assert part.load <= new.part(part.name).load


@given(fleets, factors, factors)
def test_more_clients_or_reports_never_need_less(
    fleet: PlannedFleet, clients: float, rate: float
) -> None:
    larger = replace(fleet, clients=math.ceil(fleet.clients * clients))
    faster = replace(fleet, interval=fleet.interval / rate)
    for more in (larger, faster):
        pairs = zip(sizes(plan(fleet)), sizes(plan(more)), strict=True)
        assert [(a, b) for a, b in pairs if b < a * (1 - 1e-9)] == []


@given(fleets)
def test_relays_never_need_more_than_single_requests(fleet: PlannedFleet) -> None:
    alone, relayed = plan(replace(fleet, batch=1)), plan(replace(fleet, batch=500))
    assert relayed.cores <= alone.cores


def test_series_are_those_of_the_kinds() -> None:
    found = plan(PlannedFleet(clients=10, interval=60, headends=3, headend_interval=30))
    assert found.fleet.series == 10 * len(CLIENT.families) + 3 * len(HEADEND.families)
    assert found.fleet.series == 78
