"""Registered entities by group, and how many of them have no row. Pure."""

from collections import Counter
from operator import add

from contract.kinds import CLIENT, EntityKind, replace_refused
from contract.registry import CLUSTER
from contract.registry_state import RegistryState
from contract.total import Group
from exporter.fleet.limit_groups import limit_groups
from exporter.fleet.presence import Presence


def registered_groups(registry: RegistryState, kind: EntityKind) -> Counter[Group]:
    """Count the registered entities of a kind by their registered labels.

    A label that only the entity itself sends has its default.
    """
    if kind is CLIENT:
        defaults = {label.name: label.default for label in kind.labels}
        found = Counter[Group]()
        for type in kind.types:
            values = defaults | {"type": type}
            found[tuple(values[name] for name in kind.group_labels)] = registry.count_clients(type)
        return found
    if not kind.group_labels:
        return Counter({(): registry.count(kind.name)})
    found = Counter()
    for cluster in registry.registered(CLUSTER):
        group = tuple(
            replace_refused(cluster.attributes.get(name, "")) for name in kind.group_labels
        )
        found[group] += registry.count_headends(cluster.id)
    return Counter(limit_groups(kind, found, add))


def never_reported(kind: EntityKind, registered: Counter[Group], found: Presence) -> Counter[Group]:
    """Count the registered entities without a row, by their registered labels."""
    places = [
        place
        for place, name in enumerate(kind.group_labels)
        if any(label.name == name and label.registered for label in kind.labels)
    ]
    shown = Counter[Group]()
    for group, each in found.groups.items():
        shown[tuple(group[place] for place in places)] += sum(each.states)
    return Counter(
        {
            group: max(0, number - shown[tuple(group[place] for place in places)])
            for group, number in registered.items()
        }
    )
