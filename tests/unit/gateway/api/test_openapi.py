"""The OpenAPI document matches the API: paths, methods, fields, responses."""

import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from contract.kinds import KINDS
from gateway.api.openapi import PATH, build_document
from gateway.app import Gateway
from gateway.operations import OperationRoute
from gateway.settings import GatewaySettings
from service.metrics.requests import RequestMetrics
from tests.unit.gateway.conftest import Api


@pytest.fixture
def routes(settings: GatewaySettings) -> list[OperationRoute]:
    return Gateway(settings, RequestMetrics(CollectorRegistry())).routes()


@pytest.fixture
def document(routes: list[OperationRoute]) -> dict[str, Any]:
    return build_document(routes)


async def test_the_document_is_served(api: Api, document: dict[str, Any]) -> None:
    answer = await api.http.get(PATH)
    assert answer.status_code == 200
    assert answer.json() == document
    assert answer.json()["openapi"].startswith("3.1")


def test_the_document_lists_exactly_the_routes(
    routes: list[OperationRoute], document: dict[str, Any]
) -> None:
    served = {
        (route.path_format, method)
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method.upper())
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == served


def test_request_bodies_have_the_declared_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for kind in KINDS.values():
        title = kind.name.capitalize()
        metrics = schemas[f"{title}Metrics"]
        assert metrics["properties"].keys() == {metric.field for metric in kind.metrics}
        submission = schemas[f"{title}Submission"]
        assert submission["required"] == ["metrics"]
        submitted = {label.field for label in kind.labels if label.submitted}
        assert submission["properties"].keys() == {"metrics", "timestamp"} | submitted


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    names = set(references(document))
    assert names
    assert names <= document["components"]["schemas"].keys()


def test_a_503_has_a_retry_after_header(document: dict[str, Any]) -> None:
    answers = [
        operation["responses"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method == "post" and operation.get("requestBody", {}).get("required")
    ]
    assert len(answers) >= 6
    for responses in answers:
        assert {"200", "400", "401", "413", "415", "503"} <= responses.keys()
        assert "Retry-After" in responses["503"]["headers"]


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        found = [re.sub(r"^#/components/schemas/", "", reference) for reference in own]
        return found + [name for value in part.values() for name in references(value)]
    if isinstance(part, list):
        return [name for value in part for name in references(value)]
    return []
