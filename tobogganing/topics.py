"""`tobogganing topics`: creates the topics, for an installation whose services may not."""

import asyncio
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings, LogSettings, SettingsError
from service.kafka.topics import ensure_topics
from service.plural import counted
from service.startup import exit_if_misconfigured, start


@dataclass(frozen=True, kw_only=True)
class TopicsSettings(KafkaSettings, LogSettings):
    """The settings of the command."""


def main() -> None:
    with exit_if_misconfigured():
        settings = start(TopicsSettings, "topics")
        try:
            topics = asyncio.run(ensure_topics(settings))
        except KafkaError as error:
            raise SettingsError(f"topics: {error}") from error
    for topic in topics.all():
        print(f"{topic.name}  {counted(topic.partitions, 'partition')}")
