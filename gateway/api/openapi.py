"""The OpenAPI 3.1 document, built from the same declarations as validation."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import ID_PATTERN
from gateway.api.schemas import Revocation
from gateway.ingest.batch_decoder import MAX_ITEMS
from gateway.operations import Operation, OperationRoute, operation_route
from service.http.errors import JSON
from service.http.problem import PROBLEM

PATH = "/api/v1/openapi.json"
_JSON, _LINES = "application/json", "application/x-ndjson"
_SCHEMAS = "#/components/schemas/{name}"
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
}
_RATE_LIMIT = {
    "RateLimit-Policy": {
        "description": "The limit: `q` requests in `w` seconds",
        "schema": {"type": "string", "examples": ['"submissions";q=60;w=60']},
    },
    "RateLimit": {
        "description": "What is left of it: `r` requests; `t` seconds until this one would pass",
        "schema": {"type": "string", "examples": ['"submissions";r=0;t=1']},
    },
}
_CONTENT_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "Compression of the body, if any",
    "schema": {"type": "string", "enum": ["gzip", "zstd"]},
}
_ERRORS = {
    400: "The body or the query string is not valid; nothing was changed",
    401: "The credential is missing, malformed, unknown, expired, or belongs to another entity",
    404: "Nothing is registered under this id",
    405: "The path does not support this method",
    408: "The body did not arrive in time",
    403: "A registration limit is reached, or the enrolment has no use left",
    409: "The id is already registered, or a concurrent change came first",
    413: "The body is too large",
    415: "The Content-Type or Content-Encoding of the body is not supported",
    429: "A rate limit is exceeded",
    501: "No CA is configured, or its certificate is not valid now",
    503: "Kafka did not confirm in time",
}
_REVOCATION = [
    {
        "required": ["jti"],
        "properties": {
            "jti": {"type": "string"},
            "node_id": {"type": "null"},
            "node_type": {"type": "null"},
        },
    },
    {
        "required": ["node_id", "node_type"],
        "properties": {"node_id": {"type": "string"}, "node_type": {"type": "string"}},
    },
]
"""Revokes one token (`jti`), or all tokens of a node (`node_id`, `node_type`)."""
_PATH_PARAMETER = re.compile(r"{(\w+)}")


class Error(msgspec.Struct):
    """The body of every error response."""

    error: str
    field: str | msgspec.UnsetType = msgspec.UNSET


class Problem(msgspec.Struct):
    """The body of an error if `Accept` asks for `application/problem+json` (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | msgspec.UnsetType = msgspec.UNSET


def with_document(routes: Sequence[OperationRoute]) -> list[OperationRoute]:
    """Add the route of the document that describes all routes."""

    async def show(_: Request) -> Response:
        return JSON(document)

    described = [*routes, operation_route(PATH, GET=(show, Operation(summary="This document")))]
    document = build_document(described)
    return described


def build_document(routes: Iterable[OperationRoute]) -> dict[str, Any]:
    """Build the document: all paths and responses under /api/v1."""
    operations = {route.path_format: route.operations for route in routes}
    structs = {
        type
        for methods in operations.values()
        for each in methods.values()
        for type in (*each.bodies, each.response)
        if type
    }
    ordered = sorted(structs | {Error, Problem}, key=lambda struct: struct.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_SCHEMAS)
    schemas[Revocation.__name__]["anyOf"] = _REVOCATION
    paths = {
        path: _path_item(path)
        | {method.lower(): _operation(each) for method, each in methods.items()}
        for path, methods in operations.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tobogganing metrics", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "api_key": {"type": "http", "scheme": "bearer"},
                "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "admin": {"type": "http", "scheme": "bearer"},
                "relay": {"type": "http", "scheme": "bearer"},
                "enrolment": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _path_item(path: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in _PATH_PARAMETER.findall(path)
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(operation: Operation) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "Done",
        "content": _content(operation.response, _LINES if operation.is_lines else _JSON),
    }
    described: dict[str, Any] = {
        "summary": operation.summary,
        "security": [{credential: []} for credential in operation.credentials],
        "responses": {"200": response}
        | {str(status): _error(status) for status in sorted(operation.statuses)},
    }
    if operation.bodies:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": _body_content(operation),
        }
    parameters = [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "schema": parameter.schema,
        }
        for parameter in operation.parameters
    ]
    if operation.is_packed:
        parameters.append(_CONTENT_ENCODING)
    if parameters:
        described["parameters"] = parameters
    return described


def _body_content(operation: Operation) -> dict[str, Any]:
    references = [{"$ref": _SCHEMAS.format(name=body.__name__)} for body in operation.bodies]
    schema: dict[str, Any] = references[0] if len(references) == 1 else {"oneOf": references}
    if operation.is_lines:
        return {_LINES: {"schema": schema}}
    if not operation.is_batch:
        return {_JSON: {"schema": schema}}
    array = {"type": "array", "maxItems": MAX_ITEMS, "items": schema}
    return {_JSON: {"schema": array}, _LINES: {"schema": schema}}


def _error(status: int) -> dict[str, Any]:
    content = _content(Error) | _content(Problem, PROBLEM.decode())
    response: dict[str, Any] = {"description": _ERRORS[status], "content": content}
    if status in (429, 503):
        response["headers"] = _RETRY_AFTER | (_RATE_LIMIT if status == 429 else {})
    return response


def _content(struct: type[msgspec.Struct] | None, type: str = _JSON) -> dict[str, Any]:
    schema = {"$ref": _SCHEMAS.format(name=struct.__name__)} if struct else {}
    return {type: {"schema": schema}}
