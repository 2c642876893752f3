"""Options of aiokafka clients from the settings, and the admin client."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.consumer import stop_and_close
from service.process_name import process_name

log = structlog.get_logger(__name__)

Connected = TypeVar("Connected")

REQUEST_TIMEOUT_MS = 4_000
"""Timeout of a request; with aiokafka's default of 40 s, a frozen broker would block for that
long."""

METADATA_MAX_AGE_MS = 10_000
"""A client requests metadata only from the brokers that it knows. A client that started while only
one broker was up must soon learn of the others, so that it does not depend on that broker."""

RECONNECT_DELAY = 0.5
"""Seconds between two attempts to connect."""

STOP_TIMEOUT = 1.0
"""Seconds in which a client that only reads must close its connections."""


_request_timeout_ms = REQUEST_TIMEOUT_MS


def set_request_timeout(milliseconds: int) -> None:
    """Set the request timeout of the Kafka clients that this process creates from now on."""
    global _request_timeout_ms
    _request_timeout_ms = milliseconds


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments of every aiokafka client of this process."""
    options: dict[str, Any] = {
        "client_id": process_name(),
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": _request_timeout_ms,
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
    """Return the TLS context for the brokers, with a client certificate if one is configured."""
    context: ssl.SSLContext = create_ssl_context(
        cafile=settings.kafka_ssl_cafile,
        certfile=settings.kafka_ssl_certfile,
        keyfile=settings.kafka_ssl_keyfile,
    )
    return context


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer that only reads, within STOP_TIMEOUT.

    With TLS each side waits up to 30 s for the other's close notification.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await stop_and_close(consumer)


@contextlib.asynccontextmanager
async def when_reachable(
    make: Callable[[], AbstractAsyncContextManager[Connected]],
) -> AsyncIterator[Connected]:
    """Enter a context that connects to Kafka; retry until Kafka responds.

    For tasks that must not end: Kafka may stop while the process starts.
    """
    while True:
        async with contextlib.AsyncExitStack() as stack:
            try:
                connected = await stack.enter_async_context(make())
            except (KafkaError, OSError) as error:
                log.warning("waiting for Kafka", reason=repr(error))
            else:
                yield connected
                return
        await asyncio.sleep(RECONNECT_DELAY)


@contextlib.asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Return a context with an admin client."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def group_member_count(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the number of members of a consumer group, as its coordinator reports it.

    Raises:
        KafkaError: there is no coordinator, or it has not loaded the group yet.
    """
    (response,) = await admin.describe_consumer_groups([group])
    (described,) = response.to_object()["groups"]
    if described["error_code"]:
        raise for_code(described["error_code"])()
    return len(described["members"])


def is_temporary(error: KafkaError) -> bool:
    """Return whether the request may succeed later; aiokafka does not mark timeouts as
    retriable."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)
