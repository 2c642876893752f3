"""An import refuses exactly the entries that a gateway would refuse."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.bulk_registration import Line, parse_line
from tobogganing.fleet_import.fleet_entry import (
    COLUMNS,
    FleetEntry,
    from_response,
    validation_error,
)


def gateway_takes(entry: FleetEntry) -> bool:
    """Validate as the gateway's endpoint does before it reads the registry."""
    return isinstance(parse_line(msgspec.json.encode(entry)), Line)


texts = st.one_of(
    st.sampled_from(["Anna", "Zürich", "a" * 255, "a" * 256, "tab\t", "\x7f", "\u0085", "a\nb"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
ids = st.one_of(
    st.sampled_from(["a", "a" * 128, "a" * 129, "-a", ".a", "a.b_c-d", "ä", "a/b", "a b", "a\n"]),
    texts,
)
clients = st.builds(
    FleetEntry,
    kind=st.just("client"),
    id=ids,
    name=texts,
    type=st.sampled_from(["native", "docker", "mobile", "client_native", "NATIVE", "phone"]),
)
headends = st.builds(FleetEntry, kind=st.just("headend"), id=ids, name=texts, cluster_id=ids)
clusters = st.builds(
    FleetEntry,
    kind=st.just("cluster"),
    id=ids,
    name=texts,
    region=texts,
    datacenter=texts,
    headend_url=st.sampled_from(["", "https://h.example", "u" * 2048, "u" * 2049]),
)


@given(st.one_of(clients, headends, clusters))
def test_an_entry_is_valid_exactly_if_a_gateway_accepts_it(entry: FleetEntry) -> None:
    assert (validation_error(entry) is None) == gateway_takes(entry)


@given(st.one_of(clients, headends, clusters))
def test_a_gateways_response_gives_the_entry(entry: FleetEntry) -> None:
    shown = msgspec.to_builtins(entry) | {f"{entry.kind}_id": entry.id}
    shown |= {"headends": 3, "old_keys_valid_until": []}
    assert from_response(entry.kind, shown) == entry


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (FleetEntry("relay", "r", "R"), "kind: must be one of cluster, headend, client"),
        (FleetEntry("client", "c", "", type="native"), "name: is missing"),
        (FleetEntry("client", "c", "C"), "type: is missing"),
        (FleetEntry("headend", "h", "H"), "cluster_id: is missing"),
        (FleetEntry("cluster", "k", "K", region="eu"), "datacenter: is missing"),
        (
            FleetEntry("headend", "h", "H", cluster_id="k", region="eu"),
            "region: must be empty for a headend",
        ),
        (
            FleetEntry("client", "c", "\udcff", type="native"),
            "name: must not contain U+DCFF: remove it "
            "(control characters and line separators are not allowed)",
        ),
        (
            FleetEntry("cluster", "k", "K", region="eu\u2028", datacenter="d"),
            "region: must not contain U+2028: remove it "
            "(control characters and line separators are not allowed)",
        ),
    ],
)
def test_an_error_names_its_column(entry: FleetEntry, expected: str) -> None:
    assert validation_error(entry) == expected


def test_the_columns_are_documented() -> None:
    assert ",".join(COLUMNS) == "kind,id,name,type,cluster_id,region,datacenter,headend_url"
