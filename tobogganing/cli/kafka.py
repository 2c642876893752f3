"""Kafka as a command asks it: the services' settings, faults as one sentence."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings, LogSettings, SettingsError, load_settings
from service.kafka.clients import admin_client
from service.kafka.topics import ensure_topics, topics_from
from service.logs import configure_logs
from tobogganing.devstack.run_config import read_run_config
from tobogganing.errors import LocalError, WrongSettingError

Result = TypeVar("Result")

PATIENCE = 10.0
"""Seconds that brokers get to have the topics."""


def on_kafka(
    ask: Callable[[KafkaSettings], Awaitable[Result]], *, make_topics: bool = False
) -> Result:
    """Run `ask` with the environment's KAFKA_* settings, or the Kafka of the local run.

    KAFKA_PARTITIONS need not be set: the topics say how many there are. With `make_topics` it must
    be as for the services, and topics that are missing are made.

    Raises:
        LocalError: the settings are wrong, or Kafka does not answer or has no such topics.
    """
    try:
        settings = load_settings(KafkaSettings, _environ(os.environ))
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None
    configure_logs(LogSettings(log_level="ERROR"), "command")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors are raised, too
    servers = settings.kafka_bootstrap_servers
    try:
        return asyncio.run(_run(settings, ask, make_topics))
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None
    except (KafkaError, TimeoutError, OSError) as error:
        raise LocalError(f"Kafka at {servers} did not answer as it should: {error!r}") from None


async def _run(
    settings: KafkaSettings, ask: Callable[[KafkaSettings], Awaitable[Result]], make_topics: bool
) -> Result:
    if make_topics:
        await ensure_topics(settings, timeout=PATIENCE)
        return await ask(settings)
    return await ask(replace(settings, kafka_partitions=await _partitions(settings)))


async def _partitions(settings: KafkaSettings) -> int:
    name = topics_from(settings).submissions.name
    async with admin_client(settings) as admin:
        (topic,) = await admin.describe_topics([name])
    if topic["error_code"] or not topic["partitions"]:
        raise LocalError(
            f"Kafka at {settings.kafka_bootstrap_servers} has no topic {name}: check "
            "KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC_PREFIX"
        )
    return len(topic["partitions"])


def _environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    if environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return environ
    file = read_run_config(environ).bootstrap_servers_file
    try:
        servers = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise LocalError(
            "KAFKA_BOOTSTRAP_SERVERS is not set, and there is no local run: set it as the services "
            "have it, with whatever else of KAFKA_… they have"
        ) from None
    return {**environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
