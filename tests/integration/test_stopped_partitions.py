"""A gateway without permission to describe the processors' group cannot see stopped partitions."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from contract.topics import processor_group
from service.config.settings import KafkaSettings, Secret
from service.kafka.clients import admin_client
from service.kafka.topics import ensure_topics
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.secured_broker import (
    PASSWORD,
    USER,
    WITH_ACLS,
    SecuredBroker,
    secured_broker,
)
from tests.waiting import pause
from tobogganing.devstack.install import Install

GROUP, LITERAL, DESCRIBE, DENY, ALLOW = 3, 3, 8, 2, 3
"""Kafka's ACL codes: resource type, pattern type, operation, permissions."""
METRIC = "tobogganing_gateway_stops_refused"


@pytest.fixture
async def guarded(kafka_install: Install, tmp_path: Path) -> AsyncIterator[SecuredBroker]:
    """A broker with ACLs, which allow everything that they do not deny."""
    properties = {**WITH_ACLS, "allow.everyone.if.no.acl.found": "true"}
    folder = tmp_path / "kafka"
    async with secured_broker(folder, kafka_install, properties, "SASL_PLAINTEXT") as broker:
        yield broker


async def allow(settings: KafkaSettings, user: str, permission: int) -> None:
    """Allow or deny a user to describe the processors' group."""
    group = processor_group(settings.kafka_topic_prefix)
    async with admin_client(settings) as admin:
        request = CreateAclsRequest(
            GROUP, group, LITERAL, f"User:{user}", "*", DESCRIBE, permission
        )
        response = await admin._send_request(request)
    assert "error_code=0" in str(response), response


async def shown(gateway: Service) -> float:
    text = (await gateway.http.get("/metrics", headers=gateway.authorized)).text
    (line,) = (line for line in text.splitlines() if line.startswith(f"{METRIC} "))
    return float(line.rpartition(" ")[2])


async def test_a_gateway_without_permission_to_see_stops_is_not_ready(
    guarded: SecuredBroker, topic_prefix: str, tmp_path: Path, signing_keys: str
) -> None:
    everything = KafkaSettings(
        kafka_bootstrap_servers=guarded.superuser, kafka_topic_prefix=topic_prefix
    )
    settings = replace(
        everything,
        kafka_bootstrap_servers=guarded.users,
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_username=USER,
        kafka_sasl_password=Secret(PASSWORD),
    )
    await ensure_topics(everything)
    await allow(everything, "somebody", ALLOW)  # so no other user may
    extra = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": signing_keys,
        "KAFKA_SECURITY_PROTOCOL": settings.kafka_security_protocol,
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
    }
    async with Service("gateway", settings, tmp_path, **extra) as gateway:

        async def until_refused(value: float) -> None:
            async with asyncio.timeout(30):
                while await shown(gateway) != value:  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(0.1)

        await gateway.until("/-/healthy", 200)
        await until_refused(1)
        reason = "permission to describe the processors' group"
        async with asyncio.timeout(30):
            while True:
                not_ready = await gateway.until("/-/ready", 503)
                if not_ready.json()["waiting_for"] == [reason]:
                    break
                await pause()
        (line,) = gateway.errors()
        assert "Kafka refuses to describe the processors' group" in line

        await allow(everything, USER, ALLOW)
        await gateway.wait_until_ready()
        await until_refused(0)

        await allow(everything, USER, DENY)
        await until_refused(1)
        assert len(gateway.errors()) == 2
        assert (await gateway.http.get("/-/ready")).status_code == 200, (
            "the previous data remains valid"
        )
