"""Relays: who submits for others, and for whom."""

from contract.registry import RegistryRecord

ALL_ENTITIES = "*"
"""What stands in a relay's record for the scope `all`; it is no id."""


def encode_scope(scope: str | list[str]) -> str:
    """Encode a scope for a record: `all`, or a list of ids, each given once."""
    return ALL_ENTITIES if isinstance(scope, str) else " ".join(dict.fromkeys(scope))


def scope_of(record: RegistryRecord) -> frozenset[str] | None:
    """Ids of the entities, of whatever kind, that a relay may submit for; None: of all."""
    scope = record.attributes["scope"]
    return None if scope == ALL_ENTITIES else frozenset(scope.split())


def scope_for_response(record: RegistryRecord) -> str | list[str]:
    """The scope as answers show it."""
    scope = record.attributes["scope"]
    return "all" if scope == ALL_ENTITIES else scope.split()
