"""Relays: the entities that a relay may submit for, and the format of its API key."""

from contract.registry import RegistryRecord

ALL_ENTITIES = "*"
"""Value of the scope `all` in a relay's record; not a valid id."""


def encode_scope(scope: str | list[str]) -> str:
    """Encode a scope for a record: `all`, or a list of ids without duplicates."""
    return ALL_ENTITIES if isinstance(scope, str) else " ".join(dict.fromkeys(scope))


def scope_of(record: RegistryRecord) -> frozenset[str] | None:
    """Return the ids of the entities that a relay may submit for; None means all entities."""
    scope = record.attributes["scope"]
    return None if scope == ALL_ENTITIES else frozenset(scope.split())


def scope_for_response(record: RegistryRecord) -> str | list[str]:
    """Return the scope in the format of responses."""
    scope = record.attributes["scope"]
    return "all" if scope == ALL_ENTITIES else scope.split()
