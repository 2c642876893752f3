"""A query and its URL are the same thing."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.checkins.query import Cursor, Query, QueryError

QUERIES = st.builds(
    Query,
    collection=st.just("headends"),
    search=st.text(max_size=20).map(str.strip),
    states=st.frozensets(st.integers(0, 3)),
    groups=st.dictionaries(
        st.sampled_from(["region", "datacenter", "cluster"]),
        st.text(min_size=1, max_size=9).map(str.strip).filter(bool),
    ),
    sort=st.sampled_from(["name", "id"]),
    descending=st.booleans(),
    limit=st.integers(1, 1000),
    cursor=st.none() | st.builds(Cursor, key=st.text(max_size=20), id=st.text(max_size=20)),
)


@given(QUERIES)
def test_a_url_is_parsed_to_its_query(query: Query) -> None:
    url = query.url(cursor=query.cursor)
    assert Query.parse(parse_qsl(url)) == query


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("kind", "relays"), ("state", "gone"), ("sort", "size"), ("limit", "0")],
        *[("limit", "1001"), ("limit", "x"), ("cursor", "!"), ("cursor", "W10"), ("foo", "1")],
        *[("cursor", "eyJhIjoxfQ"), ("q", "x" * 2000), ("cursor", "W251bGwsMV0")],
    ],
)
def test_what_is_invalid_is_named(name: str, text: str) -> None:
    with pytest.raises(QueryError) as raised:
        Query.parse([(name, text)])
    assert raised.value.parameter == name


def test_a_cursor_belongs_to_its_order() -> None:
    cursor = str(Cursor("Ann", "c"))
    with pytest.raises(QueryError):
        Query.parse([("cursor", cursor)])
    with pytest.raises(QueryError):
        Query.parse([("sort", "name"), ("cursor", str(Cursor(1.5, "c")))])


def test_silent_is_late_and_offline() -> None:
    assert Query.parse([("state", "silent")]).states == {0, 1}
    assert Query.parse([("state", "late,never"), ("state", "online")]).states == {1, 2, 3}
