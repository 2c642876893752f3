"""An OpenAPI document of the exporters' receipts and ledger, according to docs/api.md.

Exporters serve no document themselves: if gateway and exporter share a port, its path belongs to
the gateway, and two operations need none. This document is used only to test them.
"""

from typing import Any

_COUNT = {"type": "integer", "minimum": 0}
_COUNTS = ("read", "applied", "stale", "late", "dead_lettered", "lost")
_STATES: dict[str, dict[str, Any]] = {
    "queued": {},
    "processed": {
        "result": {"type": "string", "enum": ["applied", "stale", "late"]},
        "note": {"type": "string"},
    },
    "dead_lettered": {"reason": {"type": "string"}},
    "lost": {"note": {"type": "string"}},
    "ambiguous": {"note": {"type": "string"}},
}


def document(known: str) -> dict[str, Any]:
    """Return an OpenAPI document of receipts, of which one is `known`, and the ledger."""
    receipt = {"type": "string", "pattern": r"^[0-9]{1,9}-[0-9]{1,18}-[0-9]{1,9}(-[0-9]{1,18})?$"}
    parameter = {
        "name": "receipt",
        "in": "path",
        "required": True,
        "schema": receipt,
        "example": known,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Exporter", "version": "1"},
        "paths": {
            "/api/v1/ledger": {"get": _operation(_ledger(), 401, 405, 503)},
            "/api/v1/receipts/{receipt}": {
                "parameters": [parameter],
                "get": _operation(_state(receipt), 400, 401, 404, 405, 421, 503),
            },
        },
        "components": {"securitySchemes": {"metrics": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(answer: dict[str, Any], *errors: int) -> dict[str, Any]:
    error = {"error": {"type": "string"}, "field": {"type": "string"}}
    return {
        "security": [{"metrics": []}],
        "responses": {"200": _answer(answer)}
        | {str(status): _answer(_object(error, ["error"])) for status in errors},
    }


def _answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "", "content": {"application/json": {"schema": schema}}}


def _object(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    shape = {"type": "object", "properties": fields, "required": required}
    return shape | {"additionalProperties": False}


def _ledger() -> dict[str, Any]:
    partition: dict[str, Any] = {
        "partition": _COUNT,
        "offset": {"type": "integer", "minimum": -1},
        "logical_offset": {"type": "integer", "minimum": -1},
        "lag_records": {"type": ["integer", "null"], "minimum": 0},
        "missing_records": {"type": ["integer", "null"], "minimum": 0},
        "histories": {"type": "integer", "minimum": 1},
        "cut": _COUNT,
        "balances": {"const": True},
        **dict.fromkeys(_COUNTS, _COUNT),
    }
    each = {"type": "array", "minItems": 1, "items": _object(partition, [*partition])}
    return _object({"balances": {"const": True}, "partitions": each}, ["balances", "partitions"])


def _state(receipt: dict[str, Any]) -> dict[str, Any]:
    always = {"receipt": receipt}
    return {
        "oneOf": [
            _object(always | {"state": {"const": state}} | more, ["receipt", "state"])
            for state, more in _STATES.items()
        ]
    }
