"""Limits the groups of a kind that /metrics/fleet shows. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from contract.kinds import EntityKind
from contract.total import Group, other_group

_Value = TypeVar("_Value")


def limit_groups(
    kind: EntityKind, found: Mapping[Group, _Value], add: Callable[[_Value, _Value], _Value]
) -> dict[Group, _Value]:
    """Keep the first `max_groups` groups in the order of labels; add all others to OTHER_GROUP.

    `add` returns the sum of two values; it may change the first.
    """
    ordered = sorted(found)
    kept = {group: found[group] for group in ordered[: kind.max_groups]}
    other = other_group(kind)
    for group in ordered[kind.max_groups :]:
        kept[other] = add(kept[other], found[group]) if other in kept else found[group]
    return kept
