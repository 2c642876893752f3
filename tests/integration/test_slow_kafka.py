"""Commands on a Kafka that takes longer to respond than a service waits."""

import asyncio
from asyncio import StreamReader, StreamWriter

from service.config.settings import KafkaSettings
from service.kafka.clients import REQUEST_TIMEOUT_MS
from service.kafka.topics import ensure_topics
from tests.integration.command_line import CommandLine

DELAY = REQUEST_TIMEOUT_MS / 1000 + 1


async def test_a_command_waits_longer_than_a_service(settings: KafkaSettings) -> None:
    """A service sends the request again; a command runs once."""
    await ensure_topics(settings, timeout=30)
    host, port = settings.kafka_bootstrap_servers.rsplit(":", 1)
    connections = 0

    async def relay(near: StreamReader, back: StreamWriter) -> None:
        nonlocal connections
        connections += 1
        far, forth = await asyncio.open_connection(host, int(port))

        async def responses() -> None:
            await asyncio.sleep(DELAY)
            await copy(far, back)

        await asyncio.gather(copy(near, forth), responses())

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        slow = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        command = CommandLine(
            "http://127.0.0.1:1",
            KAFKA_BOOTSTRAP_SERVERS=slow,
            KAFKA_TOPIC_PREFIX=settings.kafka_topic_prefix,
        )
        await command.good("dead-letters", "list")
    assert connections > 0


async def copy(source: StreamReader, target: StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()
