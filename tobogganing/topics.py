"""`tobogganing topics`: creates topics and changes their settings.

For an installation whose services may not create topics, and after a change of
SUBMISSIONS_RETENTION_HOURS.
"""

import asyncio
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings, LogSettings, SettingsError
from service.kafka.topics import ensure_topics
from service.plural import counted
from service.startup import exit_if_misconfigured, start
from tobogganing.alter_topics import alter_topics


@dataclass(frozen=True, kw_only=True)
class TopicsSettings(KafkaSettings, LogSettings):
    """The settings of the command."""


def main(alter: bool) -> None:
    """Create missing topics and check the others; with `alter`, change what differs."""
    with exit_if_misconfigured():
        settings = start(TopicsSettings, "topics")
        try:
            asyncio.run(_run(settings, alter))
        except (KafkaError, TimeoutError) as error:
            raise SettingsError(f"topics: {error!r}") from error


async def _run(settings: TopicsSettings, alter: bool) -> None:
    if alter:
        for change in await alter_topics(settings):
            print(change)
    topics = await ensure_topics(settings)
    for topic in topics.all():
        print(f"{topic.name}  {counted(topic.partitions, 'partition')}")
