"""The upgrade notes of docs/operations.md: an installation of 0.1.0, with its topics and its data,
is upgraded while its fleet reports. The documented order, and its reverse, lose nothing."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.processes import Service
from tests.integration.test_versions import ADMIN, MixedVersionFleet, Parts, ledgers, upgrade
from tests.integration.versions import ROOT, first_version

ORDERS = {
    "documented": ("exporters", "workers", "gateways"),
    "reverse": ("gateways", "workers", "exporters"),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_version(tmp_path_factory.mktemp("versions"))


@pytest.mark.long  # needs the history of the repository
@pytest.mark.parametrize("order", ORDERS)
async def test_an_upgrade_from_the_first_version(
    settings: KafkaSettings, tmp_path: Path, signing_keys: str, first: Path, order: str
) -> None:
    parts = Parts.of(settings, tmp_path, signing_keys, FRAME_COMPRESSION="none")
    fleet = MixedVersionFleet()
    everything = [*parts.gateways, *parts.workers, *parts.exporters]
    for service in everything:
        service.code = first
    async with contextlib.AsyncExitStack() as stack:
        for service in everything:
            await stack.enter_async_context(service)
        for service in everything:
            await service.wait_until_ready()
        await fleet.join(parts.gateways[0], 12)
        await fleet.report(*parts.gateways)
        assert await fleet.shown(parts.exporters[0]) == fleet.acknowledged
        for kind in ORDERS[order]:
            await upgrade_in_turn(getattr(parts, kind), fleet, parts.gateways)
            if order == "documented":
                for exporter in parts.exporters:
                    assert await fleet.shown(exporter) == fleet.acknowledged
        await fleet.report(*parts.gateways)
        for exporter in parts.exporters:
            assert await fleet.shown(exporter) == fleet.acknowledged
        sums = await ledgers(parts.exporters[0])
        assert sums["dead_lettered"] == sums["lost"] == sums["late"] == 0
        assert sums["read"] == sums["applied"] + sums["stale"]
        for worker in parts.workers:
            assert worker.faults() == []
        await credentials_of_the_first_version_are_removed(fleet, parts.gateways[1])


async def upgrade_in_turn(
    services: Sequence[Service], fleet: MixedVersionFleet, gateways: Sequence[Service]
) -> None:
    for service in services:
        async with fleet.reporting(*gateways):
            await upgrade(service, ROOT)


async def credentials_of_the_first_version_are_removed(
    fleet: MixedVersionFleet, gateway: Service
) -> None:
    """A registration that 0.1.0 made can be removed, and its key is refused afterwards."""
    id, headers = next(iter(fleet.keys.items()))
    removed = await gateway.http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
    assert removed.status_code == 200, removed.text
    refused = await gateway.http.post(
        f"/api/v1/clients/{id}/metrics", json={"metrics": {"bytes_sent": 1}}, headers=headers
    )
    assert refused.status_code == 401, refused.text
