"""Lists agree with a plain model of filters, orders and pages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.checkins.documents import item, items
from exporter.checkins.listing import View
from exporter.checkins.query import Cursor, Query
from exporter.checkins.state import STATES, state_of
from exporter.state import columns
from exporter.state.columns import REPORTED
from tests.unit.exporter.checkins.conftest import NOW, THRESHOLDS, Fleet

AGES = st.sampled_from([0.0, 299.0, 300.0, 301.0, 899.0, 900.0, 5000.0, -10.0])
ENTITIES = st.dictionaries(
    st.from_regex(r"[a-c][0-9]{1,2}", fullmatch=True),
    st.tuples(AGES | st.none(), st.sampled_from(["Ann", "bob", "ÄNN", "b"]), st.booleans()),
    max_size=40,
)
SORTS = st.sampled_from(["state", "checkin", "name", "id"])


def ids(view: View, indexes: list[int]) -> list[str]:
    return [item(view, index, "client")["id"] for index in indexes]


def build(entities: dict[str, tuple[float | None, str, bool]]) -> View:
    fleet = Fleet()
    for id, (age, name, headless) in entities.items():
        fleet.register("client", id, name=name, type="docker")
        if age is not None:
            labels = {"name": name, "type": "docker", "headless": str(headless).lower()}
            fleet.report("client", id, age, labels=labels)
    return fleet.view()


def state(age: float | None) -> int:
    return state_of(age, THRESHOLDS["client"])


@given(ENTITIES, SORTS, st.booleans(), st.integers(1, 7))
def test_pages_in_sequence_are_the_whole_list_in_order(
    entities: dict[str, tuple[float | None, str, bool]], sort: str, descending: bool, limit: int
) -> None:
    view = build(entities)
    query = Query(sort=sort, descending=descending, limit=limit)
    shown: list[str] = []
    while True:
        page = view.page(query)
        assert page.total == len(entities)
        shown += ids(view, page.indexes)
        if page.next is None:
            break
        query = Query(
            sort=sort, descending=descending, limit=limit, cursor=Cursor.parse(str(page.next))
        )

    def key(id: str) -> tuple[object, ...]:
        age, name, _ = entities[id]
        last = 0.0 if age is None else NOW - age
        sign = -1 if descending else 1
        match sort:
            case "state":
                return (sign * state(age), sign * last, id)
            case "checkin":
                return (math.inf if age is None else sign * last, id)
            case "name":
                return (name.casefold(), id)
        return (id,)

    expected = sorted(entities, key=key)
    if descending and sort in ("name", "id"):
        expected.reverse()
    assert shown == expected
    assert ids(view, view.order(view.select(query), query)) == expected


@given(ENTITIES, st.sets(st.integers(0, 3)), st.sampled_from(["", "ann", "a1", "A1", "b", "zz"]))
def test_filters_and_search(
    entities: dict[str, tuple[float | None, str, bool]], states: set[int], search: str
) -> None:
    view = build(entities)
    query = Query(states=frozenset(states), search=search, limit=1000)
    expected = {
        id
        for id, (age, name, _) in entities.items()
        if (not states or state(age) in states)
        and (search.casefold() in name.casefold() or id.startswith(search))
    }
    assert set(ids(view, view.page(query).indexes)) == expected


@given(ENTITIES)
def test_counts_and_groups(entities: dict[str, tuple[float | None, str, bool]]) -> None:
    view = build(entities)
    states = [state(age) for age, _, _ in entities.values()]
    assert view.counts() == tuple(states.count(code) for code in range(len(STATES)))
    headless = [age for age, _, headless in entities.values() if headless and age is not None]
    assert view.count("headless", "true") == len(headless)
    for group in view.groups("headless"):
        if group.value != "true":
            continue
        silent = [NOW - age for age in headless if state(age) < 2]
        assert group.total == len(headless)
        assert group.silent == len(silent)
        assert group.silent_since == max(silent, default=None)


def test_a_registered_client_without_a_row_has_never_reported(fleet: Fleet) -> None:
    fleet.register("client", "c", name="Ann", type="mobile")
    shown = item(fleet.view(), 0, "client")
    assert shown["state"] == "never"
    assert (shown["name"], shown["type"], shown["last_check_in"]) == ("Ann", "mobile", None)


def test_an_expired_client_is_never_again_and_a_removed_one_is_gone(fleet: Fleet) -> None:
    fleet.register("client", "c")
    fleet.report("client", "c", 10, labels={"name": "n"})
    assert item(fleet.view(), 0, "client")["state"] == "online"
    fleet.forget("client", "c")
    assert item(fleet.view(), 0, "client")["state"] == "never"
    fleet.register("client", "c", removed=True)
    assert fleet.view().counts() == (0, 0, 0, 0)
    assert len(fleet.directory.kinds["client"]) == 0
    fleet.report("client", "d", 10)
    assert ids(fleet.view(), fleet.view().page(Query()).indexes) == ["d"], "its slot is used again"


def test_a_cleared_registry_leaves_the_rows(fleet: Fleet) -> None:
    fleet.register("client", "c")
    fleet.report("client", "c", 10)
    fleet.registered.clear()
    assert int(fleet.view().snapshot.flags[0]) == REPORTED


def test_an_entity_that_ends_while_a_list_is_shown_is_left_out(fleet: Fleet) -> None:
    for id in ("a", "b", "c"):
        fleet.report("client", id, 10, labels={"name": f"{id}\nx"})
    view = fleet.view()
    page = view.page(Query(sort="name"))
    fleet.forget("client", "b")
    fleet.report("client", "new", 10)
    assert [each["id"] for each in items(view, page.indexes, "client")] == ["a", "c"]
    assert [each["id"] for each in items(view, view.page(Query()).indexes, "client")] == ["a", "c"]
    assert view.page(Query(search="c\ufffdx")).total == 1


def test_searches_follow_changes_between_views(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id, name in (("a", "Ann"), ("b", "Bob")):
        fleet.report("client", id, 10, labels={"name": name})

    def found(search: str) -> list[str]:
        view = fleet.view()
        return ids(view, view.page(Query(search=search, sort="name")).indexes)

    assert found("ann") == ["a"]
    fleet.report("client", "a", 5, labels={"name": "Carol"})
    assert (found("ann"), found("carol")) == ([], ["a"])
    fleet.register("client", "c", name="Anna")
    assert found("ann") == ["c"]
    fleet.register("client", "c", removed=True)
    assert found("ann") == []
    fleet.directory.kinds["client"].release()
    fleet.report("client", "b", 5, labels={"name": "Anna"})
    assert found("ann") == ["b"]
    monkeypatch.setattr(columns, "MAX_CHANGED", 3)
    for number in range(5):
        fleet.report("client", f"n{number}", 5, labels={"name": f"new {number}"})
    assert found("new") == ["n0", "n1", "n2", "n3", "n4"]
