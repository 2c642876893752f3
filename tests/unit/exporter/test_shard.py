"""Shards: every partition belongs to exactly one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.settings import ExporterSettings
from exporter.shard import Shard
from service.config.settings import SettingsError, load_settings

ENVIRON = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
    "METRICS_TOKEN": "t" * 16,
    "KAFKA_PARTITIONS": "12",
}


def test_the_second_of_ten_shards() -> None:
    shard = Shard.parse("2/10")
    assert shard.partitions(32) == (1, 11, 21, 31)
    assert not shard.is_first
    assert Shard.parse("1/10").is_first


@given(st.integers(1, 40), st.integers(1, 200))
def test_every_partition_belongs_to_one_shard(count: int, total: int) -> None:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    found = [partition for shard in shards for partition in shard.partitions(total)]
    assert sorted(found) == list(range(total))
    assert [shard.is_first for shard in shards].count(True) == 1


def test_by_default_all_partitions_are_served() -> None:
    settings = load_settings(ExporterSettings, ENVIRON)
    assert settings.shard.partitions(settings.kafka_partitions) == tuple(range(12))


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/0", "a/b", "-1/2", "1/2/3", "13/13"])
def test_an_impossible_shard_is_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match="EXPORTER_SHARD"):
        load_settings(ExporterSettings, ENVIRON | {"EXPORTER_SHARD": text})


def test_there_can_be_as_many_shards_as_partitions() -> None:
    settings = load_settings(ExporterSettings, ENVIRON | {"EXPORTER_SHARD": "12/12"})
    assert settings.shard.partitions(settings.kafka_partitions) == (11,)
