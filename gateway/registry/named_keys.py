"""Keys that name their owner, for requests whose path does not: `<id>~<secret>`."""

from contract.kinds import is_id

_SEPARATOR = "~"
"""Occurs in no id and in no secret."""


def named_key(id: str, secret: str) -> str:
    """Make a key that names the id of its owner."""
    return f"{id}{_SEPARATOR}{secret}"


def owner_of(key: str | None) -> str:
    """Return the id that a key names; empty, which is not an id, if it names none."""
    id, separator, _ = (key or "").partition(_SEPARATOR)
    return id if separator and is_id(id) else ""
