"""What a list shows, as it is in a URL. Pure."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlencode

from exporter.checkins.state import COLLECTIONS, SILENT, STATES, group_labels

SORTS = ("state", "checkin", "name", "id")
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_TEXT = 255
"""Maximum length of a filter in characters."""


class QueryError(ValueError):
    """A parameter is invalid; `parameter` is its name."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True)
class Cursor:
    """The last entity of the previous page: its sort key and its id."""

    key: float | str
    id: str

    def __str__(self) -> str:
        text = json.dumps([self.key, self.id], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a cursor.

        Raises:
            ValueError: it is not the cursor of any list.
        """
        padded = text + "=" * (-len(text) % 4)
        try:
            key, id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, RecursionError, TypeError) as error:
            raise ValueError("not a cursor") from error
        is_key = isinstance(key, float | int | str) and not isinstance(key, bool)
        if not (is_key and isinstance(id, str)):
            raise ValueError("not a cursor")
        return cls(key, id)


@dataclass(frozen=True)
class Query:
    """Selects, sorts and pages the entities of one kind."""

    collection: str = "clients"
    search: str = ""
    states: frozenset[int] = frozenset()
    """Codes of the states to show; empty: all."""
    anomalous: bool = False
    """Show only entities with a recent anomaly."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Label -> the value to show."""
    sort: str = "state"
    descending: bool = False
    limit: int = DEFAULT_LIMIT
    cursor: Cursor | None = None

    @property
    def kind(self) -> str:
        return COLLECTIONS[self.collection]

    @property
    def order(self) -> str:
        """The `sort` parameter."""
        return "-" * self.descending + self.sort

    @property
    def is_filtered(self) -> bool:
        return bool(self.search or self.states or self.anomalous or self.groups)

    @classmethod
    def parse(cls, parameters: Iterable[tuple[str, str]]) -> Self:
        """Parse the parameters of a URL; empty ones count as missing, as forms send them.

        Raises:
            QueryError: a parameter is unknown or invalid.
        """
        given = [(name, text.strip()) for name, text in parameters if text.strip()]
        collection = dict(given).get("kind", "clients")
        if collection not in COLLECTIONS:
            raise QueryError("kind", f"kind must be one of {', '.join(COLLECTIONS)}")
        labels = group_labels(COLLECTIONS[collection])
        query = cls(collection)
        for name, text in given:
            if len(text) > 4 * MAX_TEXT:
                raise QueryError(name, f"{name} is too long")
            query = replace(query, **query._parsed(name, text, labels))
        if isinstance(query.cursor, Cursor):
            is_text = isinstance(query.cursor.key, str)
            if is_text != (query.sort in ("name", "id")):
                raise QueryError("cursor", "the cursor is that of another sort order")
        return query

    def _parsed(self, name: str, text: str, labels: tuple[str, ...]) -> dict[str, Any]:
        match name:
            case "kind":
                return {}
            case "q":
                return {"search": text[:MAX_TEXT]}
            case "state":
                return {"states": self.states | _states(text)}
            case "anomalies":
                if text not in ("true", "false"):
                    raise QueryError(name, "anomalies must be true or false")
                return {"anomalous": text == "true"}
            case "sort":
                if text.removeprefix("-") not in SORTS:
                    raise QueryError(
                        name,
                        f"sort must be one of {', '.join(SORTS)}; prefix it with - to reverse "
                        "the order",
                    )
                return {"sort": text.removeprefix("-"), "descending": text.startswith("-")}
            case "limit":
                if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
                    raise QueryError(name, f"limit must be a number from 1 to {MAX_LIMIT}")
                return {"limit": int(text)}
            case "cursor":
                try:
                    return {"cursor": Cursor.parse(text)}
                except ValueError as error:
                    raise QueryError(name, str(error)) from error
        if name in labels:
            return {"groups": {**self.groups, name: text}}
        if name in ("type", "headless", "region", "datacenter", "cluster"):
            return {}  # a label of another kind, left in a form
        raise QueryError(name, f"unknown parameter {name!r}")

    def url(self, **changes: object) -> str:
        """Return this query's URL parameters with changes; a new view begins at its first page."""
        changed = replace(self, **{"cursor": None, **changes})  # type: ignore[arg-type]
        pairs: list[tuple[str, str]] = [("kind", changed.collection)]
        if changed.search:
            pairs.append(("q", changed.search))
        pairs += [("state", STATES[code]) for code in sorted(changed.states)]
        if changed.anomalous:
            pairs.append(("anomalies", "true"))
        pairs += sorted(changed.groups.items())
        if changed.sort != "state" or changed.descending:
            pairs.append(("sort", changed.order))
        if changed.limit != DEFAULT_LIMIT:
            pairs.append(("limit", str(changed.limit)))
        if changed.cursor is not None:
            pairs.append(("cursor", str(changed.cursor)))
        return urlencode(pairs)


def _states(text: str) -> frozenset[int]:
    found: set[int] = set()
    for name in text.split(","):
        if name == "silent":
            found.update(SILENT)
        elif name in STATES:
            found.add(STATES.index(name))
        else:
            raise QueryError("state", f"state must be one of {', '.join(STATES)}, silent")
    return frozenset(found)
