"""Commands that access Kafka directly: settings, and errors in one sentence."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import click
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings, LogSettings, SettingsError, load_settings
from service.kafka.clients import admin_client, set_request_timeout
from service.kafka.topics import ensure_topics, topics_from
from service.logs import configure_logs
from service.process_name import set_process_name
from tobogganing.cli.kafka_errors import sentence
from tobogganing.devstack.local_run import lock_file
from tobogganing.devstack.locks import is_locked
from tobogganing.devstack.run_config import read_run_config, start_command
from tobogganing.errors import LocalError, WrongSettingError

Result = TypeVar("Result")

REQUEST_TIMEOUT_MS = 15_000
"""Timeout of a command's requests to Kafka. A service's is shorter, since it repeats them; a backup
on a busy machine must not fail because one response took 4 s."""

TOPICS_TIMEOUT = 10.0
"""Seconds within which the brokers must have created the topics."""


def on_kafka(
    function: Callable[[KafkaSettings], Awaitable[Result]],
    *,
    make_topics: bool = False,
    timeout: float = TOPICS_TIMEOUT,
) -> Result:
    """Run `function` with the KAFKA_* settings of the environment, else those of the local run.

    KAFKA_PARTITIONS is read from the topics. With `make_topics` it must be set as for the services,
    and missing topics are created within `timeout` seconds.

    Raises:
        LocalError: a setting is wrong, Kafka does not respond, or the topics do not exist.
    """
    servers = "?"
    try:
        settings = load_settings(KafkaSettings, _environ(os.environ))
        servers = settings.kafka_bootstrap_servers
        configure_logs(LogSettings(log_level="ERROR"), "command")
        command = click.get_current_context().command_path.split(" ", 1)[-1]
        set_process_name(command.replace(" ", "-"), socket.gethostname())
        set_request_timeout(REQUEST_TIMEOUT_MS)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors are raised, too
        return asyncio.run(_run(settings, function, timeout if make_topics else None))
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None
    except (KafkaError, TimeoutError, ConnectionError) as error:
        if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS") and not _local_run_exists(os.environ):
            raise LocalError(
                f"the local run does not run: start it with `{start_command()}`, or only its Kafka "
                "with `tobogganing kafka start`. For another Kafka, set KAFKA_BOOTSTRAP_SERVERS"
            ) from None
        raise LocalError(sentence(error, servers)) from None


async def _run(
    settings: KafkaSettings,
    function: Callable[[KafkaSettings], Awaitable[Result]],
    make_topics_within: float | None,
) -> Result:
    if make_topics_within is not None:
        await ensure_topics(settings, timeout=make_topics_within)
        return await function(settings)
    return await function(replace(settings, kafka_partitions=await _partitions(settings)))


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


def _local_run_exists(environ: Mapping[str, str]) -> bool:
    return is_locked(lock_file(read_run_config(environ).state))


def _environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    if environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return environ
    file = read_run_config(environ).bootstrap_servers_file
    try:
        servers = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise LocalError(
            "KAFKA_BOOTSTRAP_SERVERS is not set, and there is no local run: set it as for the "
            "services, with their other KAFKA_… settings"
        ) from None
    return {**environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
