"""`tobogganing topics`: make the topics before any service starts, where services may not."""

import asyncio
import sys
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from service.kafka import TopicMismatchError, ensure_topics
from service.logs import configure_logs
from service.settings import KafkaSettings, LogSettings, SettingsError, load_settings


@dataclass(frozen=True, kw_only=True)
class TopicsSettings(KafkaSettings, LogSettings):
    """Where Kafka is, and how to log."""


def main() -> None:
    try:
        settings = load_settings(TopicsSettings)
        configure_logs(settings, "topics")
        topics = asyncio.run(ensure_topics(settings))
    except (SettingsError, TopicMismatchError, KafkaError) as error:
        print(f"topics: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for topic in topics.all():
        print(f"{topic.name}  {topic.partitions} partitions")
