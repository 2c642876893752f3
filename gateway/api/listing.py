"""A page of what is registered: of one kind, by id, filtered."""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from contract.kinds import TYPE_ALIASES
from contract.registry import RegistryRecord, RegistryState
from gateway.api.resource_types import Resource
from gateway.body.json import BodyError
from service.slices import SLICE_SECONDS

MAX_PAGE = 1000
MAX_PAGE_SIZE = 1024 * 1024
"""Characters of attributes after which a page ends: it is encoded in one piece."""


class ListingQuery(NamedTuple):
    """What a listing asks for."""

    kind: str
    limit: int
    after: str
    name: str
    attributes: Mapping[str, str]

    @classmethod
    def parse(cls, request: Mapping[str, str], resource: Resource) -> "ListingQuery":
        """Read a query string.

        Raises:
            BodyError: it names what this collection cannot be filtered by, or no number.
        """
        given = dict(request)
        limit = given.pop("limit", "100")
        is_number = limit.isascii() and limit.isdigit() and len(limit) <= 9
        if not (is_number and 1 <= int(limit) <= MAX_PAGE):
            raise BodyError("limit", f"must be a number from 1 to {MAX_PAGE}")
        after, name = given.pop("after", ""), given.pop("name", "")
        for field in given:
            if field not in resource.filters:
                choices = ", ".join(("limit", "after", "name", *resource.filters))
                raise BodyError(field, f"is not known here: there are {choices}")
        if "type" in given:
            given["type"] = TYPE_ALIASES.get(given["type"], given["type"])
        return cls(resource.kind, int(limit), after, name.casefold(), given)

    def matches(self, record: RegistryRecord) -> bool:
        return self.name in record.name.casefold() and all(
            record.attributes.get(field) == value for field, value in self.attributes.items()
        )


async def page(
    state: RegistryState, query: ListingQuery
) -> tuple[list[RegistryRecord], str | None]:
    """Return what fits the query, and the id after which there may be more, None if there is none.

    A page also ends when it is large: relays may have long scopes.
    """
    found: list[RegistryRecord] = []
    size, after = 0, query.after
    while True:
        began = time.perf_counter()
        for record in state.registered(query.kind, after):
            after = record.id
            if query.matches(record):
                if len(found) == query.limit or size > MAX_PAGE_SIZE:
                    return found, found[-1].id
                found.append(record)
                size += sum(map(len, record.attributes.values()))
            if time.perf_counter() - began > SLICE_SECONDS:
                break
        else:
            return found, None
        await asyncio.sleep(0)
