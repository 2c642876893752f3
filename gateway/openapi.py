"""The API's description (OpenAPI 3.1), made of the declarations that validate."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import ID_PATTERN, KINDS, EntityKind
from gateway import registrations as bodies
from gateway.bodies import Received, declare
from service.http import JSON, TemplateRoute, route

PATH = "/api/v1/openapi.json"
_SCHEMAS = "#/components/schemas/{name}"
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
}
_ERRORS = {
    400: "The body is not valid; nothing has changed",
    401: "The credential is missing, malformed, unknown, expired or someone else's",
    404: "The headend that the token names is not registered",
    405: "Another method is allowed here",
    408: "The body did not arrive in time",
    409: "The id is registered already",
    413: "The body is too large",
    415: "The body is not application/json in UTF-8",
    503: "Kafka did not confirm in time",
}


class Error(msgspec.Struct):
    """Every answer that is an error."""

    error: str
    field: str | msgspec.UnsetType = msgspec.UNSET


def openapi_route() -> TemplateRoute:
    document = build_document()

    async def show(_: Request) -> Response:
        return JSON(document)

    return route(PATH, show, "GET")


def build_document() -> dict[str, Any]:
    """Describe every path and answer under /api/v1."""
    submissions = {kind.name: declare(kind) for kind in KINDS.values()}
    structs = [*submissions.values(), *_registration_structs(), Received, Error]
    _, schemas = msgspec.json.schema_components(structs, ref_template=_SCHEMAS)
    paths = {
        f"/api/v1/{kind.collection}/{{{kind.id_label}}}/metrics": {
            "parameters": [_id_parameter(kind)],
            "post": _submission(kind, submissions[kind.name].__name__),
        }
        for kind in KINDS.values()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tobogganing metrics", "version": "1"},
        "paths": paths | _registration_paths() | _own_path(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "api_key": {"type": "http", "scheme": "bearer"},
                "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "admin": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _registration_structs() -> list[type[msgspec.Struct]]:
    return [
        bodies.ClientRegistration,
        bodies.ClientRegistered,
        bodies.ClusterRegistration,
        bodies.ClusterRegistered,
        bodies.HeadendRegistration,
        bodies.HeadendRegistered,
        bodies.TokenRequest,
        bodies.TokenIssued,
    ]


def _registration_paths() -> dict[str, Any]:
    def register(name: str, noun: str) -> dict[str, Any]:
        return {
            "post": _operation(
                f"Register a {noun}",
                f"{name}Registration",
                f"{name}Registered",
                (400, 401, 405, 408, 409, 413, 415, 503),
                "admin",
            )
        }

    issue = _operation(
        "Get a token for an API key",
        "TokenRequest",
        "TokenIssued",
        (400, 401, 405, 408, 413, 415, 503),
        None,
    )
    return {
        "/api/v1/clients/register": register("Client", "client"),
        "/api/v1/clusters/register": register("Cluster", "cluster"),
        "/api/v1/headends/register": register("Headend", "headend"),
        "/api/v1/auth/token": {"post": issue},
    }


def _own_path() -> dict[str, Any]:
    described = {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {}}}}
    answers = {"200": described, "405": _error(405)}
    return {PATH: {"get": {"summary": "This document", "responses": answers}}}


def _id_parameter(kind: EntityKind) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
    return {"name": kind.id_label, "in": "path", "required": True, "schema": schema}


def _submission(kind: EntityKind, body: str) -> dict[str, Any]:
    errors = [400, 401, 405, 408, 413, 415, 503]
    if kind.credential == "jwt":
        errors.append(404)
    summary = f"Submit metrics of a {kind.name}"
    return _operation(summary, body, "Received", sorted(errors), kind.credential)


def _operation(
    summary: str, body: str, answer: str, errors: Sequence[int], credential: str | None
) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "Done", "content": _content(answer)}}
    return {
        "summary": summary,
        "security": [{credential: []}] if credential else [],
        "requestBody": {"required": True, "content": _content(body)},
        "responses": answers | {str(status): _error(status) for status in errors},
    }


def _error(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _ERRORS[status], "content": _content("Error")}
    if status == 503:
        answer["headers"] = _RETRY_AFTER
    return answer


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=schema)}}}
