"""The simulated fleet: reproducible by seed, with valid reports."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import CLIENT, HEADEND, MAX_METRIC_VALUE, EntityKind, is_id, is_text
from tobogganing.simulator.simulated_fleet import (
    Agent,
    SimulatedFleet,
    is_simulated,
    simulate_fleet,
)


def play(fleet: SimulatedFleet, reports: int) -> list[list[dict[str, Any]]]:
    agents: list[Agent] = [*fleet.clients, *fleet.headends]
    return [[agent.report(10.0) for _ in range(reports)] for agent in agents]


def test_the_same_seed_gives_the_same_reports() -> None:
    first, again, other = (simulate_fleet(20, 5, seed) for seed in (7, 7, 8))
    for there, here in zip(first.clusters, again.clusters, strict=True):
        assert there.registration() == here.registration()
    for client, same_client in zip(first.clients, again.clients, strict=True):
        assert client.registration() == same_client.registration()
    reports = play(first, 50)
    assert reports == play(again, 50)
    assert reports != play(other, 50)


def test_a_larger_fleet_contains_a_smaller_one() -> None:
    assert play(simulate_fleet(3, 0, 1), 5) == play(simulate_fleet(9, 0, 1), 5)[:3]


def assert_allowed(kind: EntityKind, body: dict[str, Any]) -> None:
    known = {metric.field: metric.type for metric in kind.metrics}
    for name, value in body["metrics"].items():
        assert name in known
        assert 0 <= value <= MAX_METRIC_VALUE
        assert known[name] == "float" or float(value).is_integer()


@given(st.integers(), st.integers(1, 30), st.floats(0.01, 100_000))
def test_every_report_is_valid(seed: int, reports: int, interval: float) -> None:
    fleet = simulate_fleet(3, 2, seed)
    for client in fleet.clients:
        for _ in range(reports):
            assert_allowed(CLIENT, client.report(interval))
    for headend in fleet.headends:
        for _ in range(reports):
            body = headend.report(interval)
            assert_allowed(HEADEND, body)
            assert 0 <= body["metrics"].get("cpu_usage", 0) <= 100
            assert is_text(body["headend_name"])


def test_ids_and_names_are_valid_and_unique() -> None:
    fleet = simulate_fleet(300, 30, 1)
    agents: list[Agent] = [*fleet.clients, *fleet.headends]
    assert all(is_id(agent.id) and is_text(agent.name) for agent in agents)
    assert all(is_id(cluster.id) for cluster in fleet.clusters)
    assert len({agent.id for agent in agents}) == 330
    assert {headend.cluster.id for headend in fleet.headends} == {c.id for c in fleet.clusters}


def test_a_fleet_without_headends_needs_no_clusters() -> None:
    assert simulate_fleet(3, 0, 1).clusters == []


pytestmark = pytest.mark.xdist_group("simulated_fleet")


@pytest.fixture(scope="module")
def long_play() -> list[list[dict[str, Any]]]:
    return play(simulate_fleet(100, 0, 42), 200)


def test_counters_grow_except_at_restarts(long_play: list[list[dict[str, Any]]]) -> None:
    steps = restarts = 0
    for reports in long_play:
        uptimes = [body["metrics"].get("connection_uptime") for body in reports]
        sent = [body["metrics"].get("bytes_sent") for body in reports]
        for (uptime, bytes_sent), (next_uptime, next_sent) in pairwise(
            zip(uptimes, sent, strict=True)
        ):
            if None in (uptime, bytes_sent, next_uptime, next_sent):
                continue
            steps += 1
            if next_uptime < uptime:
                restarts += 1
                assert next_uptime <= 10, "uptime starts again at 0"
            else:
                assert next_sent >= bytes_sent
    assert steps > 10_000
    assert 0 < restarts < steps / 50


def test_types_and_encodings_are_mixed(long_play: list[list[dict[str, Any]]]) -> None:
    fleet = simulate_fleet(100, 0, 42)
    assert {client.type for client in fleet.clients} == set(CLIENT.types)
    assert {client.headless for client in fleet.clients} == {True, False}
    values = [body["metrics"].get("bytes_sent") for reports in long_play for body in reports]
    assert {type(value) for value in values} == {int, float, type(None)}


def test_ids_of_simulations_are_recognized_and_no_others() -> None:
    fleet = simulate_fleet(3, 7, 1)
    for kind, entities in (
        ("client", fleet.clients),
        ("headend", fleet.headends),
        ("cluster", fleet.clusters),
    ):
        assert all(is_simulated(kind, each.id) for each in entities)
    assert is_simulated("client", "sim-client-000007-a1b2c3-0")
    assert is_simulated("client", "sim-client-1000000")
    for kind, id in (
        *(("client", "sim-client-own"), ("client", "sim-client-000007-spare")),
        *(("client", "sim-headend-0001"), ("headend", "sim-client-000007")),
        *(("cluster", "sim-eu"), ("client", "my-sim-client-000007")),
    ):
        assert not is_simulated(kind, id), id
