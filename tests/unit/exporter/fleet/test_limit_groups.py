"""Groups beyond the limit are added up, each once."""

from dataclasses import replace
from operator import add

from contract.kinds import HEADEND, OTHER_GROUP
from exporter.fleet.limit_groups import limit_groups

KIND = replace(HEADEND, max_groups=2)


def group(name: str) -> tuple[str, ...]:
    return (name,) * len(KIND.group_labels)


def test_up_to_the_limit_all_groups_are_shown() -> None:
    found = {group("b"): 1, group("a"): 2}
    assert limit_groups(KIND, found, add) == found


def test_further_groups_are_added_to_one() -> None:
    found = {group("c"): 4, group("a"): 1, group("d"): 8, group("b"): 2}
    assert limit_groups(KIND, found, add) == {
        group("a"): 1,
        group("b"): 2,
        group(OTHER_GROUP): 12,
    }


def test_a_group_with_that_name_is_counted_once() -> None:
    beyond = {group("a"): 1, group("b"): 2, group(OTHER_GROUP): 4, group("z"): 8}
    assert limit_groups(KIND, beyond, add)[group(OTHER_GROUP)] == 12
    within = {group(OTHER_GROUP): 4, group("x"): 1, group("z"): 8}
    assert limit_groups(KIND, within, add)[group(OTHER_GROUP)] == 12
