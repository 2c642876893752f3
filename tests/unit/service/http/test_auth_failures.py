"""Responses to failed authentication: 401, and 429 for an address that fails too often."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Scope

from service.http.auth_failures import AuthFailureLimiter
from service.http.errors import ApiError
from service.metrics.requests import RequestMetrics


class Door:
    """An AuthFailureLimiter with a clock that the test sets."""

    def __init__(self, failures_per_minute: float = 60) -> None:
        self.now = 1000.0
        self.metrics = RequestMetrics(CollectorRegistry())
        self.auth_failures = AuthFailureLimiter(self.metrics, failures_per_minute, lambda: self.now)

    def refuse(self, address: str | None = "192.0.2.1") -> ApiError:
        client = None if address is None else (address, 1234)
        scope: Scope = {"type": "http", "client": client, "endpoint_template": "/api/{id}"}
        return self.auth_failures.failure("api_key", scope)

    def statuses(self, *addresses: str) -> Iterator[int]:
        return (self.refuse(address).status for address in addresses)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"tobogganing_manager_{name}_total", labels)


def test_401_becomes_429_after_the_limit_of_a_minute() -> None:
    door = Door()
    assert [door.refuse().status for _ in range(62)] == [401] * 60 + [429] * 2
    error = door.refuse()
    assert (error.headers or {})["Retry-After"] == "1"
    assert error.body == {"error": "Too many failed attempts from this address"}
    door.now += 1
    assert [door.refuse().status for _ in range(2)] == [401, 429]


def test_retry_after_is_exact_for_low_rates() -> None:
    door = Door(failures_per_minute=2)
    assert [door.refuse().status for _ in range(2)] == [401, 401]
    error = door.refuse()
    assert (error.headers or {})["Retry-After"] == "30"
    door.now += 29
    assert (door.refuse().headers or {})["Retry-After"] == "1"
    door.now += 1
    assert door.refuse().status == 401


def test_every_failure_counts_as_an_attempt_and_limited_ones_by_their_template() -> None:
    door = Door(failures_per_minute=1)
    for _ in range(3):
        door.refuse()
    assert door.count("auth_attempts", type="api_key", result="failure") == 3
    limited = door.count("api_rate_limit_hits", endpoint="/api/{id}", client_type="unknown")
    assert limited == 2


def test_ipv4_addresses_and_ipv6_networks_have_separate_limits() -> None:
    door = Door(failures_per_minute=1)
    assert list(door.statuses("192.0.2.1", "192.0.2.2", "192.0.2.1")) == [401, 401, 429]
    assert list(door.statuses("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")) == [401, 429, 401]


def test_a_mapped_ipv4_address_is_treated_as_ipv4() -> None:
    door = Door(failures_per_minute=1)
    assert list(door.statuses("::ffff:192.0.2.1", "::ffff:192.0.2.2")) == [401, 401]
    assert list(door.statuses("192.0.2.1", "::ffff:192.0.2.2")) == [429, 429]


@pytest.mark.parametrize("address", [None, "", "unknown", "fe80::1%eth0", "::rubbish::", "1:2"])
def test_unparsable_addresses_are_limited(address: str | None) -> None:
    door = Door(failures_per_minute=1)
    assert [door.refuse(address).status for _ in range(2)] == [401, 429]


def test_zero_means_no_limit() -> None:
    door = Door(failures_per_minute=0)
    assert {door.refuse().status for _ in range(1000)} == {401}
