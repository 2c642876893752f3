"""Listing of registered entities: one kind, ordered by id, filtered, in pages."""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from contract.kinds import TYPE_ALIASES
from contract.registry import RegistryRecord
from contract.registry_state import RegistryState
from gateway.api.resource_types import Resource
from gateway.body.json import BodyError
from gateway.operations import Operation, Parameter
from service.slices import SLICE_SECONDS

MAX_PAGE = 1000
MAX_PAGE_SIZE = 1024 * 1024
"""A page ends after this many characters of attributes, because it is encoded in one call."""


class ListingQuery(NamedTuple):
    """The parameters of a listing request."""

    kind: str
    limit: int
    after: str
    name: str
    attributes: Mapping[str, str]

    @classmethod
    def parse(cls, request: Mapping[str, str], resource: Resource) -> "ListingQuery":
        """Parse a query string.

        Raises:
            BodyError: a filter is unknown, or `limit` is not valid.
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
                raise BodyError(field, f"is not a known parameter: use one of {choices}")
        if "type" in given:
            given["type"] = TYPE_ALIASES.get(given["type"], given["type"])
        return cls(resource.kind, int(limit), after, name.casefold(), given)

    def matches(self, record: RegistryRecord) -> bool:
        return self.name in record.name.casefold() and all(
            record.attributes.get(field) == value for field, value in self.attributes.items()
        )


def describe_listing(resource: Resource) -> Operation:
    """Describe the operation that lists a collection."""
    text: dict[str, object] = {"type": "string"}
    limit: dict[str, object] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
    return Operation(
        summary=f"List {resource.path} by id",
        credentials=("admin",),
        errors=(400,),
        parameters=(
            Parameter("limit", "Maximum number of entries", limit),
            Parameter("after", "The `next` of the previous page", text),
            Parameter("name", "Part of the name", text),
            *(Parameter(field, f"The {field}", text) for field in resource.filters),
        ),
    )


async def page(
    state: RegistryState, query: ListingQuery
) -> tuple[list[RegistryRecord], str | None]:
    """Return one page of matching records and the id to continue after; None if it is the last
    page.

    A page also ends when it is large, because relays may have long scopes.
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
