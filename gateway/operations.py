"""Routes that describe their operations; the OpenAPI document is built from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.http.application import Handler, TemplateRoute

_COMMON_ERRORS = (401, 429, 503)
"""Errors of every operation that checks a credential."""
_BODY_ERRORS = (400, 408, 413, 415)


class Parameter(NamedTuple):
    """A parameter of the query string."""

    name: str
    description: str
    schema: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path.

    `credentials` are alternatives; an operation without credentials and body is public. `errors`
    are those that are particular to it. The request body is one of `bodies`, or with `is_batch` an
    array (or lines) of them, or with `is_lines` lines of them, as the response then is. `is_packed`
    means that the body may be compressed. `response` is the struct of a 200 response; None if only
    docs/api.md describes it.
    """

    summary: str
    credentials: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    bodies: tuple[type[msgspec.Struct], ...] = ()
    body_required: bool = True
    is_batch: bool = False
    is_lines: bool = False
    is_packed: bool = False
    response: type[msgspec.Struct] | None = None
    parameters: tuple[Parameter, ...] = ()

    @property
    def statuses(self) -> set[int]:
        """The status of each possible error."""
        found = {405, *self.errors}
        if self.credentials or self.bodies:
            found.update(_COMMON_ERRORS)
        return found.union(_BODY_ERRORS) if self.bodies else found


class OperationRoute(TemplateRoute):
    """A path with its operations by method."""

    def __init__(self, path: str, handler: Handler, operations: Mapping[str, Operation]) -> None:
        super().__init__(path, handler, methods=list(operations))
        self.operations = operations


def operation_route(path: str, **methods: tuple[Handler, Operation]) -> OperationRoute:
    """Make the route of a path from the handler and description of each of its methods.

    It is one route, so that a 405 lists all methods.
    """
    handlers = {method: handler for method, (handler, _) in methods.items()}
    operations = {method: operation for method, (_, operation) in methods.items()}

    async def handle(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return OperationRoute(path, handle, operations)
