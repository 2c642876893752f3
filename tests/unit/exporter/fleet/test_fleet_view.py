"""A fleet scrape first reads the topic to its end, and is refused if that fails."""

from typing import cast

import pytest

from contract.kinds import KINDS
from exporter.fleet.view import FleetView
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.config.settings import load_settings
from service.http.errors import ApiError
from service.kafka.tailer import KafkaUnreachableError, TopicTailer

ENVIRON = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1", "METRICS_TOKEN": "t" * 32}


class Unreachable:
    async def catch_up(self, timeout: float) -> None:
        raise KafkaUnreachableError


async def test_a_topic_that_cannot_be_read_to_its_end_is_a_503() -> None:
    settings = load_settings(ExporterSettings, ENVIRON)
    store = StateStore([0])
    source = SourceLagMonitor(settings, "submissions", store.ledgers)
    view = FleetView(settings, store, cast("TopicTailer", Unreachable()), source, None)
    with pytest.raises(ApiError) as refused:
        await view.catch_up()
    assert refused.value.status == 503


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_thresholds_that_fit_together(kind: str) -> None:
    online, late = load_settings(ExporterSettings, ENVIRON).thresholds[kind]
    assert 0 < online < late
    name = kind.upper()
    with pytest.raises(ValueError, match=f"{name}_LATE_SECONDS=.* must not be less than"):
        load_settings(ExporterSettings, ENVIRON | {f"{name}_ONLINE_SECONDS": "9999"})
