"""Kafka: client options from the settings; topics that exist as declared before their use."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat import stop_and_close

REQUEST_TIMEOUT_MS = 4_000
"""How long a broker may take to answer: aiokafka's 40 s would wait out a frozen broker."""

METADATA_MAX_AGE_MS = 10_000
"""A client asks only the brokers that it knows where the others are. One that learnt in an outage
of a single broker must soon learn of the rest: else it waits for that one, whoever else is up."""

STOP_TIMEOUT = 1.0
"""Seconds that a client which only reads gets to close its connections."""


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client of this process is made with."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl_context(settings)
    if "SASL" in settings.kafka_security_protocol:
        password = settings.kafka_sasl_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.reveal() if password else None,
        }
    return options


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """TLS towards the brokers, with a client certificate where one is configured."""
    context: ssl.SSLContext = create_ssl_context(
        cafile=settings.kafka_ssl_cafile,
        certfile=settings.kafka_ssl_certfile,
        keyfile=settings.kafka_ssl_keyfile,
    )
    return context


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer that only reads; returns after STOP_TIMEOUT at the latest.

    With TLS each side tells the other of the end, and may wait 30 s for that.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await stop_and_close(consumer)


@contextlib.asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that describes and changes what Kafka has."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def group_member_count(admin: AIOKafkaAdminClient, group: str) -> int:
    """Number of members of a consumer group, as its coordinator says.

    Raises:
        KafkaError: there is no coordinator now, or it has not read yet what it knows of the group.
    """
    (answer,) = await admin.describe_consumer_groups([group])
    (described,) = answer.to_object()["groups"]
    if described["error_code"]:
        raise for_code(described["error_code"])()
    return len(described["members"])


def is_temporary(error: KafkaError) -> bool:
    """Tell whether the same request may succeed later; aiokafka calls no timeout retriable."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)
