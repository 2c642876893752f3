"""Searches and orders of texts agree with those of plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exporter.checkins.texts import Texts, first_slots, folded, slots_after, slots_with_prefix

NAMES = st.text(st.sampled_from("aAbßÄ😀~ "), max_size=20)
IDS = st.text(st.sampled_from("ab"), min_size=1, max_size=12)
ENTITIES = st.tuples(IDS, NAMES)
CHANGES = st.lists(st.tuples(st.integers(0, 30), st.none() | ENTITIES), max_size=8)


class Fleet:
    """Keys and names of slots, and the texts that follow them."""

    def __init__(self, entities: list[tuple[str, str]]) -> None:
        self.keys: list[bytes | None] = [f"client:{id}".encode() for id, _ in entities]
        self.names = [name for _, name in entities]
        self.texts = Texts("client")

    def change(self, changes: list[tuple[int, tuple[str, str] | None]]) -> None:
        changed = set()
        for slot, entity in changes:
            place = min(slot, len(self.keys))
            if place == len(self.keys):
                self.keys.append(None)
                self.names.append("")
            if entity is None:
                self.keys[place] = None
            else:
                self.keys[place] = f"client:{entity[0]}".encode()
                self.names[place] = entity[1]
            changed.add(place)
        self.texts.note(changed)

    def slots(self) -> list[int]:
        return [slot for slot, key in enumerate(self.keys) if key is not None]

    def id(self, slot: int) -> bytes:
        key = self.keys[slot]
        assert key is not None
        return key.partition(b":")[2]

    def name(self, slot: int) -> bytes:
        return folded(self.names[slot])


@given(st.lists(ENTITIES, max_size=30), st.lists(CHANGES, max_size=4), NAMES, IDS, st.data())
def test_searches_and_orders(
    entities: list[tuple[str, str]],
    steps: list[list[tuple[int, tuple[str, str] | None]]],
    name: str,
    prefix: str,
    data: st.DataObject,
) -> None:
    fleet = Fleet(entities)
    for step in steps:
        if data.draw(st.booleans()):
            fleet.texts.update(fleet.keys, fleet.names)
        fleet.change(step)
    fleet.texts.update(fleet.keys, fleet.names)
    slots = fleet.slots()
    known = np.array(slots, np.intp)

    found = set(fleet.texts.names.find(folded(name)).tolist())
    assert found & set(slots) == {i for i in slots if name and folded(name) in fleet.name(i)}
    begins = slots_with_prefix(fleet.texts.ids, known, prefix.encode())
    assert begins.tolist() == [i for i in slots if fleet.id(i).startswith(prefix.encode())]

    columns = [fleet.texts.names, fleet.texts.ids]
    count, descending = data.draw(st.integers(1, 10)), data.draw(st.booleans())
    texts = [(fleet.name(i), fleet.id(i)) for i in slots]
    first = first_slots(columns, known, count, descending=descending)
    assert [(fleet.name(i), fleet.id(i)) for i in first] == sorted(texts, reverse=descending)[
        :count
    ]

    last = (folded(name), prefix.encode())
    later = slots_after(columns, known, last, descending=descending)
    expected = [text for text in texts if (text < last if descending else text > last)]
    assert sorted((fleet.name(i), fleet.id(i)) for i in later) == sorted(expected)


def test_many_changes_read_everything_again() -> None:
    fleet = Fleet([("a", "first")])
    fleet.texts.update(fleet.keys, fleet.names)
    for number in range(5):
        fleet.change([(0, ("a", f"name {number}"))])
        fleet.texts.update(fleet.keys, fleet.names)
        assert fleet.texts.names.find(f"name {number}".encode()).tolist() == [0]
        assert not len(fleet.texts.names.find(b"first"))
    assert len(fleet.texts.names) <= 3, "earlier texts do not add up"


def test_more_changes_than_are_remembered() -> None:
    fleet = Fleet([("a", "before"), ("b", "before")])
    fleet.texts.update(fleet.keys, fleet.names)
    fleet.names[1] = "after"
    fleet.texts.note(None)
    fleet.texts.update(fleet.keys, fleet.names)
    assert fleet.texts.names.find(b"after").tolist() == [1]
