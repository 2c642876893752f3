"""The fleet's families: presence as of one moment, totals that can be summed, few series."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from contract.entity import entity_key, partition_of
from contract.kinds import CLIENT, HEADEND, KINDS, OTHER_GROUP
from contract.ledger import empty_ledger
from contract.position import Position
from contract.registry import CLUSTER, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from contract.row import (
    ROW_VERSION,
    EntityRow,
    RowError,
    RowVersionError,
    encode_position,
    encode_row,
)
from contract.total import TOTAL_VERSION, Group, TotalRow, encode_total, total_key
from exporter.fleet.collector import FleetCollector
from exporter.fleet.gate import TotalsGate
from exporter.fleet.presence import AGE_SECONDS
from exporter.fleet.registered import registered_groups
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from exporter.thresholds import Thresholds
from service.config.settings import KafkaSettings
from service.metrics.exposition import EOF, render

NOW = 1_700_000_000.0
THRESHOLDS = {"client": Thresholds(300, 900), "headend": Thresholds(120, 300)}
NATIVE: Group = ("native", "false")

Series = dict[tuple[str, ...], float]
"""Label values, in the order of the labels' names, and the number."""


class Shard:
    """An exporter's store and its /metrics/fleet."""

    def __init__(self, partitions: Iterable[int] = (0,), registry: RegistryState | None = None):
        self.store = StateStore(partitions, defer_rendering=True)
        self.source = SourceLagMonitor(
            KafkaSettings(kafka_bootstrap_servers="localhost:1"), "s", self.store.ledgers
        )
        self.registry = CollectorRegistry()
        self.registry.register(
            FleetCollector(
                self.store.totals,
                {name: self.store.table(name).columns for name in KINDS},
                THRESHOLDS,
                TotalsGate(self.store.ledgers, self.source),
                None if registry is None else lambda kind: registered_groups(registry, kind),
                shows_never=True,
                now=lambda: NOW,
            )
        )

    def row(self, key: bytes, offset: int = 0, partition: int = 0, **values: Any) -> bool:
        row = EntityRow(ROW_VERSION, offset, 0, 0, 0, **({"last_check_in": NOW - 1} | values))
        return self.store.apply(partition, key, encode_row(row))

    def total(
        self, group: Group, value: int, *, partition: int = 0, offset: int = 0, since: int = 1
    ) -> bool:
        row = TotalRow(TOTAL_VERSION, offset, 0, "client", group, since, {"bytes_sent": value})
        return self.store.apply(partition, total_key(partition, "client", group), encode_total(row))

    def text(self, *, is_openmetrics: bool = False) -> str:
        return render(is_openmetrics, (self.registry,)).decode()

    def shown(self) -> dict[str, Series]:
        found: dict[str, Series] = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                place = tuple(value for _, value in sorted(sample.labels.items()))
                assert place not in found.setdefault(sample.name, {}), "a series is there twice"
                found[sample.name][place] = sample.value
        return found

    def opened(self) -> "Shard":
        self.source.update(dict.fromkeys(self.store.ledgers, 0))
        return self


@pytest.fixture
def shard() -> Shard:
    return Shard().opened()


def client_labels(type: str = "native", headless: str = "false") -> dict[str, str]:
    return {"name": "n", "type": type, "headless": headless}


def headend_labels(region: str, datacenter: str = "a") -> dict[str, str]:
    return {"name": "n", "region": region, "datacenter": datacenter}


def test_an_empty_fleet_is_valid_in_both_formats(shard: Shard) -> None:
    assert shard.shown()["tobogganing_fleet_partitions_behind"] == {(): 0}
    text = shard.text(is_openmetrics=True) + EOF.decode()
    names = {family.name for family in openmetrics(text)}  # type: ignore[no-untyped-call]
    assert "tobogganing_fleet_clients" in names


@pytest.mark.parametrize(
    ("age", "state"),
    [(-100, "online"), (0, "online"), (299.9, "online"), (300, "late"), (900, "offline")],
)
def test_the_age_of_the_last_check_in_makes_the_state(shard: Shard, age: float, state: str) -> None:
    shard.row(b"client:a", labels=client_labels(), last_check_in=NOW - age)
    states = dict.fromkeys(("online", "late", "offline"), 0) | {state: 1}
    assert shard.shown()["tobogganing_fleet_clients"] == {
        ("false", name, "native"): number for name, number in states.items()
    }


def test_gauges_are_those_of_entities_that_are_online(shard: Shard) -> None:
    for number, (age, cpu) in enumerate([(1, 20.0), (1, 60.5), (500, 99.0), (1, None)]):
        metrics = {"active_connections": 10**number} | ({} if cpu is None else {"cpu_usage": cpu})
        shard.row(
            b"headend:h%d" % number,
            labels=headend_labels("eu"),
            metrics=metrics,
            last_check_in=NOW - age,
        )
    shown, place = shard.shown(), ("a", "eu")
    name = "tobogganing_fleet_headend_"
    assert shown[name + "active_connections"] == {place: 1 + 10 + 1000}
    assert shown[name + "cpu_usage_percent_average"] == {place: 40.25}
    assert shown[name + "cpu_usage_percent_sum"] == {place: 80.5}
    assert shown[name + "cpu_usage_percent_samples"] == {place: 2}
    assert shown[name + "cpu_usage_percent_max"] == {place: 60.5}
    assert name + "memory_usage_bytes" not in shown


def test_an_entity_that_is_removed_counts_no_more_and_its_slot_is_used_again(shard: Shard) -> None:
    for each in (b"client:a", b"client:b"):
        shard.row(each, labels=client_labels())
    shard.row(b"client:a", 1, removed=True)
    shard.store.apply(0, b"client:b", None, encode_position(Position(5, 0)))
    assert "tobogganing_fleet_clients" not in shard.shown()
    shard.row(b"client:c", labels=client_labels("docker"))
    assert shard.shown()["tobogganing_fleet_clients"]["false", "online", "docker"] == 1


def test_the_histogram_counts_check_ins_by_their_age(shard: Shard) -> None:
    for number, age in enumerate([1, 40, 100_000]):
        shard.row(b"client:c%d" % number, labels=client_labels(), last_check_in=NOW - age)
    buckets = shard.shown()["tobogganing_fleet_check_in_age_seconds_bucket"]
    assert {le: number for (kind, le), number in buckets.items() if kind == "client"} == {
        **{str(float(bound)): 1 + (bound >= 60) for bound in AGE_SECONDS},
        "+Inf": 3,
    }


def test_totals_of_partitions_are_added_and_only_the_newest_counts() -> None:
    shard = Shard([0, 1]).opened()
    assert shard.total(NATIVE, 5, offset=3)
    assert not shard.total(NATIVE, 4, offset=2)
    assert shard.total(NATIVE, 5, offset=3)
    shard.total(NATIVE, 100, partition=1)
    assert shard.shown()["tobogganing_fleet_client_bytes_sent_total"] == {("false", "native"): 105}


@pytest.mark.parametrize(
    ("key", "version", "error"),
    [
        (total_key(1, "client", NATIVE), TOTAL_VERSION, RowError),
        (total_key(0, "client", ("docker", "false")), TOTAL_VERSION, RowError),
        (b"total:0:router:[]", TOTAL_VERSION, RowError),
        (total_key(0, "client", NATIVE), TOTAL_VERSION + 1, RowVersionError),
    ],
)
def test_a_total_that_is_out_of_place_or_too_new_is_unreadable(
    shard: Shard, key: bytes, version: int, error: type[RowError]
) -> None:
    shard.total(NATIVE, 7)
    row = TotalRow(version, 9, 0, "client", NATIVE, 1, {"bytes_sent": 1})
    with pytest.raises(error):
        shard.store.apply(0, key, encode_total(row))
    assert shard.store.unreadable == {(0, key)}
    assert shard.shown()["tobogganing_fleet_client_bytes_sent_total"] == {("false", "native"): 7}


def test_groups_begin_at_0(shard: Shard) -> None:
    shard.row(b"client:a", labels=client_labels())
    assert shard.shown()["tobogganing_fleet_client_packets_sent_total"] == {("false", "native"): 0}


def test_the_oldest_groups_are_shown_and_a_later_one_takes_nobodys_place(shard: Shard) -> None:
    number = CLIENT.max_groups
    for each in range(number):
        shard.total((f"t{each}", "false"), 1, since=10)
    before = shard.shown()["tobogganing_fleet_client_bytes_sent_total"]
    shard.total(("a-later-one", "false"), 50, since=11)
    after = shard.shown()["tobogganing_fleet_client_bytes_sent_total"]
    assert after == before | {(OTHER_GROUP, OTHER_GROUP): 50}


def test_there_is_a_bound_of_series() -> None:
    registry = RegistryState()
    shard = Shard(registry=registry).opened()
    for number in range(300):
        place = f"r{number:03}"
        attributes = {"region": place, "datacenter": "d"}
        _register(registry, CLUSTER, f"cl{number}", attributes)
        metrics = dict.fromkeys((metric.field for metric in HEADEND.metrics), 1)
        shard.row(b"headend:h%d" % number, labels=headend_labels(place), metrics=metrics)
        for type in CLIENT.types:
            for headless in ("true", "false"):
                key = entity_key("client", f"{type}-{headless}-{number}")
                shard.row(key, labels=client_labels(type, headless))
    shown = shard.shown()
    series = Counter({name: len(each) for name, each in shown.items()})
    of_headends = sum(n for name, n in series.items() if "_headend" in name)
    assert of_headends <= 20 * (HEADEND.max_groups + 1)
    assert series.total() - of_headends <= 500 - 20
    assert sum(shown["tobogganing_fleet_headend_active_connections"].values()) == 300
    assert shown["tobogganing_fleet_headend_active_connections"][OTHER_GROUP, OTHER_GROUP] == 200


def test_no_label_value_makes_two_series_or_breaks_a_line(shard: Shard) -> None:
    for number, odd in enumerate(['a\n"b', "a\x00", "a\x01", "\u202e<script>"]):
        shard.row(b"headend:h%d" % number, labels=headend_labels(odd))
        shard.total((odd, "false"), 1)
    shown = shard.shown()
    assert sum(shown["tobogganing_fleet_headends"].values()) == 4
    assert sum(shown["tobogganing_fleet_client_bytes_sent_total"].values()) == 4


def _register(registry: RegistryState, kind: str, id: str, attributes: dict[str, str]) -> None:
    record = RegistryRecord(1, kind, id, 1, "n", attributes, incarnation=1)
    registry.apply(0, entity_key(kind, id), encode_record(record))


def test_what_is_registered_and_has_no_row_never_reported() -> None:
    registry = RegistryState()
    shard = Shard(registry=registry).opened()
    _register(registry, CLUSTER, "c", {"region": "eu", "datacenter": "a"})
    for number in range(3):
        _register(registry, "client", f"c{number}", {"type": "native"})
        _register(registry, "headend", f"h{number}", {"cluster_id": "c"})
    shard.row(b"client:c0", labels=client_labels(headless="true"))
    shard.row(b"headend:h0", labels=headend_labels("eu"), last_check_in=NOW - 200)
    shown = shard.shown()
    assert shown["tobogganing_fleet_clients"]["false", "never", "native"] == 2
    assert shown["tobogganing_fleet_headends"] == {
        ("a", "eu", "online"): 0,
        ("a", "eu", "late"): 1,
        ("a", "eu", "offline"): 0,
        ("a", "eu", "never"): 2,
    }
    assert shown["tobogganing_fleet_registered_headends"] == {("a", "eu"): 3}


def test_totals_are_shown_once_they_cover_what_was_there_at_the_start() -> None:
    shard = Shard([0, 1])
    shard.total(NATIVE, 5)
    name, behind = (
        "tobogganing_fleet_client_bytes_sent_total",
        "tobogganing_fleet_partitions_behind",
    )
    assert shard.shown()[behind] == {(): 2}
    shard.source.update({0: 10, 1: 0})
    assert (shard.shown().get(name), shard.shown()[behind]) == (None, {(): 1})
    shard.source.update({0: 99, 1: 0})
    ledger = empty_ledger()
    ledger.offset = 9
    shard.store.ledgers[0] = ledger
    assert shard.shown()[name] == {("false", "native"): 5}
    shard.source.update({0: 200, 1: 0})
    assert name in shard.shown(), "once open, it stays so"


def test_a_source_that_went_back_keeps_no_totals_away() -> None:
    shard = Shard()
    shard.source.update({0: 10})
    shard.source.update({0: 0})
    assert shard.shown()["tobogganing_fleet_partitions_behind"] == {(): 0}


entities = st.dictionaries(
    st.sampled_from([f"e{n}" for n in range(12)]),
    st.tuples(
        st.sampled_from(list(KINDS)),
        st.sampled_from(["x", "y"]),
        st.sampled_from(["1", "2"]),
        st.floats(-10, 2000),
        st.integers(0, 1000),
    ),
)


@given(entities, st.integers(0, 2**40))
def test_two_shards_add_up_to_one(
    drawn: Mapping[str, tuple[str, str, str, float, int]], total: int
) -> None:
    """An average is a quotient of two sums; a maximum is the maximum of the maxima."""
    whole, parts = Shard([0, 1]).opened(), (Shard([0]).opened(), Shard([1]).opened())
    for id, (kind, first, second, age, value) in drawn.items():
        key = entity_key(kind, id)
        partition = partition_of(key, 2)
        labels = client_labels(first, second) if kind == "client" else headend_labels(first, second)
        metrics = {metric.field: value for metric in KINDS[kind].metrics}
        for shard in (whole, parts[partition]):
            shard.row(
                key, partition=partition, labels=labels, metrics=metrics, last_check_in=NOW - age
            )
            shard.total((first, second), total + partition, partition=partition)
    one, two = whole.shown(), [part.shown() for part in parts]
    for name, series in one.items():
        for place, expected in series.items():
            found = [shown[name][place] for shown in two if place in shown.get(name, {})]
            if name.endswith("_average"):
                continue
            add = max if name.endswith("_max") else sum
            assert add(found) == pytest.approx(expected), (name, place)
    assert set(one) == {name for shown in two for name in shown}
