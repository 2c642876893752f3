"""Registration quotas."""

import asyncio
import time
from dataclasses import replace

import httpx
import pytest

from gateway.api.resources import as_removed
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.metrics.multiprocess import CallbackGauges
from tests.unit.gateway.conftest import Api

ADMIN = {"Authorization": "Bearer admin"}
CLIENT = {"name": "n", "type": "native"}


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return replace(
        settings, max_clients=2, max_headends=1, max_clusters=3, max_relays=1, max_label_values=2
    )


async def register(api: Api, collection: str, **body: object) -> httpx.Response:
    return await api.http.post(f"/api/v1/{collection}/register", headers=ADMIN, json=body)


async def cluster(api: Api, region: str, datacenter: str = "d", **body: object) -> int:
    answer = await register(api, "clusters", name="k", region=region, datacenter=datacenter, **body)
    return answer.status_code


async def test_a_registration_beyond_the_limit_is_refused_and_counted(api: Api) -> None:
    for _ in range(2):
        assert (await register(api, "clients", **CLIENT)).status_code == 200
    audited, recorded = len(api.audit.records), len(api.topic.records)
    refused = await register(api, "clients", **CLIENT)
    assert refused.status_code == 403
    assert refused.json() == {
        "error": "The limit of 2 clients is reached: raise MAX_CLIENTS, or remove some"
    }
    assert len(api.topic.records) == recorded
    assert len(api.audit.records) == audited
    name = "tobogganing_manager_client_registrations_total"
    assert api.sample(name, type="native", result="limited") == 1
    assert api.sample(name, type="native", result="success") == 2


async def test_each_kind_has_its_own_limit(api: Api) -> None:
    assert await cluster(api, "eu", cluster_id="k-1") == 200
    for collection, body in (
        ("headends", {"name": "h", "cluster_id": "k-1"}),
        ("relays", {"name": "r", "scope": "all"}),
        ("clients", CLIENT),
    ):
        assert (await register(api, collection, **body)).status_code == 200
    for collection, body in (
        ("headends", {"name": "h", "cluster_id": "k-1"}),
        ("relays", {"name": "r", "scope": "all"}),
    ):
        assert (await register(api, collection, **body)).status_code == 403
    assert (await register(api, "clients", **CLIENT)).status_code == 200


async def test_a_registered_id_is_a_conflict_even_at_the_limit(api: Api) -> None:
    for id in ("c-1", "c-2"):
        await register(api, "clients", **CLIENT, client_id=id)
    assert (await register(api, "clients", **CLIENT, client_id="c-1")).status_code == 409


async def test_a_removal_at_another_gateway_frees_quota(
    api: Api, settings: GatewaySettings
) -> None:
    for id in ("c-1", "c-2"):
        await register(api, "clients", **CLIENT, client_id=id)
    other = RegistryWriter(settings, api.topic)
    api.topic.followers = [other]  # this gateway reads only when a request needs it
    api.topic.deliver(other)
    base = other.get("client", "c-1")
    assert base is not None
    assert await other.change(base, as_removed(base, 2**50), time.monotonic() + 5)
    recorded = len(api.topic.records)
    adding = asyncio.create_task(register(api, "clients", **CLIENT))
    await api.topic.until(recorded + 1)
    api.topic.deliver(api.registry)
    assert (await adding).status_code == 200


async def test_registrations_in_progress_reserve_quota(api: Api) -> None:
    """Of many concurrent registrations, only as many as fit may succeed."""
    answers = await asyncio.gather(*(register(api, "clients", **CLIENT) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [403] * 6
    assert api.registry.state.count("client") == 2


async def test_a_failed_registration_releases_its_quota(api: Api) -> None:
    await register(api, "clients", **CLIENT)
    api.topic.loses = True
    assert (await register(api, "clients", **CLIENT)).status_code == 503
    api.topic.loses = False
    assert (await register(api, "clients", **CLIENT)).status_code == 200


async def test_the_number_of_label_values_is_limited(api: Api) -> None:
    assert await cluster(api, "eu", "d1", cluster_id="k-1") == 200
    assert await cluster(api, "us", "d1", cluster_id="k-2") == 200
    refused = await register(api, "clusters", name="k", region="asia", datacenter="d1")
    assert refused.status_code == 403
    assert refused.json()["error"] == (
        "The limit of 2 values of region is reached: use an existing value, or "
        "raise MAX_LABEL_VALUES"
    )
    assert await cluster(api, "us", "d2", cluster_id="k-3") == 200
    await api.http.delete("/api/v1/clusters/k-1", headers=ADMIN)
    assert await cluster(api, "asia", "d3") == 403, "k-2 still uses d1"
    assert await cluster(api, "asia", "d2") == 200, "no cluster uses eu any more"


async def test_label_values_in_progress_count(api: Api) -> None:
    answers = await asyncio.gather(*(cluster(api, f"r-{number}") for number in range(5)))
    assert sorted(answers) == [200, 200, 403, 403, 403]
    assert api.registry.state.count_label_values("region") == 2


async def test_a_registration_before_the_registry_was_read_is_503(api: Api) -> None:
    api.registry.tailer.caught_up = False
    api.registry_is_away = True
    recorded = len(api.topic.records)
    assert (await register(api, "clients", **CLIENT)).status_code == 503
    assert len(api.topic.records) == recorded


async def test_zero_means_no_limit(api: Api) -> None:
    api.quotas.limits["client"] = 0
    for _ in range(5):
        assert (await register(api, "clients", **CLIENT)).status_code == 200


async def test_gauges_show_usage_and_limits(api: Api) -> None:
    api.quotas.export_gauges(CallbackGauges(), api.metrics)
    await register(api, "clients", **CLIENT)
    await cluster(api, "eu")
    assert api.sample("tobogganing_gateway_registered", kind="client") == 1
    assert api.sample("tobogganing_gateway_registered_limit", kind="client") == 2
    assert api.sample("tobogganing_gateway_registered", kind="headend") == 0
    assert api.sample("tobogganing_gateway_label_values", label="region") == 1
    assert api.sample("tobogganing_gateway_label_values_limit", label="datacenter") == 2
