"""Rate limits of authenticated entities."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from contract.registry import RELAY, RegistryRecord
from gateway.auth.rate_limits import RateLimits
from gateway.registry.refusals import RefusalRecorder
from gateway.settings import GatewaySettings
from service.http.errors import ApiError
from service.metrics.requests import RequestMetrics

ENDPOINT = "/api/v1/clients/{client_id}/metrics"


def record(id: str, kind: str = "client", **attributes: str) -> RegistryRecord:
    return RegistryRecord(
        version=1, kind=kind, id=id, revision=1, name=id, attributes=attributes, incarnation=0
    )


class Gate:
    """Rate limits with a clock that the test sets."""

    def __init__(self, settings: GatewaySettings, per_minute: float, relays: float = 0) -> None:
        settings = replace(
            settings, rate_limit_per_minute=per_minute, relay_rate_limit_per_minute=relays
        )
        self.now = 1000.0
        self.metrics = RequestMetrics(CollectorRegistry())
        self.noted: list[str] = []
        refusals = SimpleNamespace(rate_limited=lambda record, _: self.noted.append(record.id))
        self.rate_limits = RateLimits(
            settings, self.metrics, cast(RefusalRecorder, refusals), lambda: self.now
        )

    def admit(self, record: RegistryRecord, items: int = 1) -> int:
        """Return the Retry-After of the 429, or 0."""
        try:
            self.rate_limits.admit(record, ENDPOINT, items)
        except ApiError as error:
            return int((error.headers or {})["Retry-After"]) if error.status == 429 else -1
        return 0

    def hits(self, client_type: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "tobogganing_manager_api_rate_limit_hits_total",
            {"endpoint": ENDPOINT, "client_type": client_type},
        )


def test_an_entity_may_use_its_burst_and_then_its_rate(settings: GatewaySettings) -> None:
    gate, laptop = Gate(settings, per_minute=6), record("c-1", type="native")
    assert [gate.admit(laptop) for _ in range(8)] == [0] * 6 + [10] * 2
    gate.now += 10
    assert [gate.admit(laptop) for _ in range(2)] == [0, 10]
    gate.now += 60
    assert [gate.admit(laptop) for _ in range(7)] == [0] * 6 + [10]


def test_entities_of_two_kinds_with_the_same_id_have_separate_limits(
    settings: GatewaySettings,
) -> None:
    gate = Gate(settings, per_minute=1)
    for entity in (record("a", type="native"), record("b", type="native"), record("a", "headend")):
        assert [gate.admit(entity) for _ in range(2)] == [0, 60]


def test_refused_requests_are_counted_by_type(settings: GatewaySettings) -> None:
    gate = Gate(settings, per_minute=1, relays=1)
    for entity in (record("a", type="docker"), record("b", "headend"), record("c", RELAY)):
        for _ in range(3):
            gate.admit(entity)
    assert (gate.hits("docker"), gate.hits("headend"), gate.hits("relay")) == (2, 2, 2)


def test_items_count_against_the_limit_of_the_relay(settings: GatewaySettings) -> None:
    gate, relay = Gate(settings, per_minute=1, relays=600), record("r", RELAY)
    assert gate.admit(relay, 500) == 0
    assert gate.admit(relay, 100) == 0
    assert gate.admit(relay, 300) == 30
    gate.now += 30
    assert gate.admit(relay, 300) == 0


@pytest.mark.parametrize("entity", [record("a", type="native"), record("r", RELAY)])
def test_zero_means_no_limit(settings: GatewaySettings, entity: RegistryRecord) -> None:
    gate = Gate(settings, per_minute=0)
    assert {gate.admit(entity, 100) for _ in range(1000)} == {0}
