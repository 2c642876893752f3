"""Relays: who submits for others, and for whom."""

from contract.kinds import is_id
from contract.registry import RegistryRecord

ALL_ENTITIES = "*"
"""What stands in a relay's record for the scope `all`; it is no id."""
_SEPARATOR = "~"
"""Between a relay's id and the secret in its key; in none of them."""


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


def relay_key(id: str, secret: str) -> str:
    """Make a relay's API key. It names its relay, as no path does."""
    return f"{id}{_SEPARATOR}{secret}"


def relay_of(api_key: str | None) -> str:
    """Id of the relay that a key names; empty, which is nobody's, where it names none."""
    id, separator, _ = (api_key or "").partition(_SEPARATOR)
    return id if separator and is_id(id) else ""
