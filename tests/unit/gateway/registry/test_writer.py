"""The registry writer: one of several changes wins, and the current record is the last one."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.entity import entity_key
from contract.registry import RECORD_VERSION, RegistryRecord, decode_record, encode_record
from gateway.registry.writer import RegistryWriter, UnconfirmedError
from gateway.settings import GatewaySettings
from service.config.secrets import ReloadableTokens
from tests.unit.gateway.conftest import InMemoryTopic

KEY = entity_key("client", "c")


def client(name: str) -> RegistryRecord:
    return RegistryRecord(RECORD_VERSION, "client", "c", 1, name, {"type": "native"}, ["00"])


def soon(seconds: float = 2.0) -> float:
    return time.monotonic() + seconds


def writer(settings: GatewaySettings, topic: InMemoryTopic) -> RegistryWriter:
    made = RegistryWriter(settings, topic)
    made.repair_interval = 0.01
    made.tailer.caught_up = True
    topic.followers.append(made)
    return made


async def test_an_added_record_is_visible_when_add_returns(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry = writer(settings, registry_topic)
    assert await registry.add(client("one"), soon())
    record = registry.get("client", "c")
    assert record is not None
    assert record.name == "one"
    assert not await registry.add(client("two"), soon())
    assert len(registry_topic.records) == 1


async def test_incarnations_are_unique_and_increase(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    """Whatever the brokers' clocks show, and within the same millisecond."""
    registry, given = writer(settings, registry_topic), []
    for number in range(300):
        assert await registry.add(replace(client("x"), id=f"c-{number}"), soon())
        record = registry.get("client", f"c-{number}")
        assert record is not None
        given.append(record.incarnation)
    assert len(set(given)) == 300
    assert max(filter(None, given)) < 2**53, "exact in a double"
    registry_topic.time.earliest_ms = registry_topic.time.latest_ms = lambda: 5  # type: ignore[method-assign]
    base = registry.get("client", "c-0")
    assert base is not None
    assert await registry.change(base, replace(base, removed=True), soon())
    assert await registry.add(replace(client("again"), id="c-0"), soon())
    again = registry.get("client", "c-0")
    assert again is not None
    assert (again.incarnation or 0) > (base.incarnation or 0)


async def test_thousands_of_concurrent_additions(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry = writer(settings, registry_topic)
    registry_topic.at_once = False
    adding = [
        asyncio.create_task(
            registry.add(
                RegistryRecord(RECORD_VERSION, "client", f"c{n}", 1, "x", {"type": "native"}),
                soon(5),
            )
        )
        for n in range(3000)
    ]
    await registry_topic.until(3000)
    registry_topic.deliver(registry)
    assert await asyncio.gather(*adding) == [True] * 3000


async def test_one_of_two_writers_wins_and_its_record_stays_the_last(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry_topic.at_once = False
    a, b = writer(settings, registry_topic), writer(settings, registry_topic)
    adding = [
        asyncio.create_task(a.add(client("a"), soon())),
        asyncio.create_task(b.add(client("b"), soon())),
    ]
    await registry_topic.until(2)
    healing = [asyncio.create_task(registry._repair_superseded()) for registry in (a, b)]
    registry_topic.at_once = True
    registry_topic.deliver(a)
    registry_topic.deliver(b)
    assert await asyncio.gather(*adding) == [True, False]
    await until_covered(registry_topic)
    assert [record.revision for record in decoded(registry_topic)] == [1, 1, 2]
    assert decoded(registry_topic)[-1].name == "a"
    assert decoded(registry_topic)[-1].incarnation == decoded(registry_topic)[0].incarnation
    for task in healing:
        task.cancel()


async def test_the_superseded_record_of_a_dead_writer_is_repaired_once(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry_topic.at_once = False
    a, b, dead = (writer(settings, registry_topic) for _ in range(3))
    a.repair_delay = b.repair_delay = 0.1
    registry_topic.followers.remove(dead)
    adding = [
        asyncio.create_task(a.add(client("a"), soon())),
        asyncio.create_task(dead.add(client("dead"), soon(0.2))),
    ]
    await registry_topic.until(2)
    began = time.monotonic()
    registry_topic.at_once = True
    for registry in (a, b):
        registry_topic.deliver(registry)
    healing = [asyncio.create_task(registry._repair_superseded()) for registry in (a, b)]
    assert await adding[0]
    with pytest.raises(UnconfirmedError):
        await adding[1]
    await until_covered(registry_topic)
    assert time.monotonic() - began > 0.1
    names = [record.name for record in decoded(registry_topic)]
    assert names[:2] == ["a", "dead"]
    assert set(names[2:]) == {"a"}
    for task in healing:
        task.cancel()


async def test_a_writer_that_starts_later_repairs_a_superseded_record(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    for name in ("first", "superseded"):
        record = client(name)
        await registry_topic.send("r", encode_record(record), partition=0, key=KEY)
    late = writer(settings, registry_topic)
    late.repair_delay = 0.05
    registry_topic.deliver(late)
    healing = asyncio.create_task(late._repair_superseded())
    await until_covered(registry_topic)
    assert [record.name for record in decoded(registry_topic)][-1] == "first"
    healing.cancel()


async def test_nothing_is_repaired_before_the_topic_was_read(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    for name in ("first", "superseded"):
        await registry_topic.send("r", encode_record(client(name)), partition=0, key=KEY)
    late = writer(settings, registry_topic)
    late.repair_delay = 0.0
    late.tailer.caught_up = False
    registry_topic.deliver(late)
    healing = asyncio.create_task(late._repair_superseded())
    for _ in range(10):
        await asyncio.sleep(late.repair_interval)
    assert len(registry_topic.records) == 2
    late.tailer.caught_up = True
    await until_covered(registry_topic)
    healing.cancel()


async def test_an_unconfirmed_change_fails_at_the_deadline(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry = writer(settings, registry_topic)
    registry_topic.loses = True
    began = time.monotonic()
    with pytest.raises(UnconfirmedError):
        await registry.add(client("one"), soon(0.3))
    assert 0.25 < time.monotonic() - began < 3
    registry_topic.loses = False
    assert await registry.add(client("one"), soon())


async def test_expiry_keeps_an_entity_that_was_registered_again_meanwhile(
    settings: GatewaySettings, registry_topic: InMemoryTopic
) -> None:
    registry = writer(settings, registry_topic)
    registry.expiry_interval = 0.0
    first = replace(client("first"), id="a", removed=True, expires_at_ms=1)
    assert await registry.add(first, soon())
    assert await registry.add(replace(client("gone"), removed=True, expires_at_ms=1), soon())
    registry_topic.at_once = False  # the writer now waits to read its first tombstone
    sweep = asyncio.create_task(registry._drop_expired())
    await registry_topic.until(3)
    coming_back = asyncio.create_task(registry.add(client("back again"), soon()))
    await registry_topic.until(4)
    registry_topic.at_once = True
    registry_topic.deliver(registry)
    assert await coming_back
    for _ in range(20):
        await asyncio.sleep(0)
    record = registry.get("client", "c")
    assert record is not None
    assert record.name == "back again"
    assert registry.state.current(first.key) is None
    assert len(registry_topic.records) == 4, "no tombstone, because it would be ignored"
    sweep.cancel()


@given(st.lists(st.sampled_from(["send", "read a", "read b"]), min_size=1, max_size=20))
async def test_readers_agree_for_any_interleaving(
    module_settings: GatewaySettings, steps: list[str]
) -> None:
    topic = InMemoryTopic(at_once=False)
    a, b = writer(module_settings, topic), writer(module_settings, topic)
    adding = []
    for number, step in enumerate(steps):
        if step == "send":
            registry = (a, b)[number % 2]
            adding.append(asyncio.create_task(registry.add(client(str(number)), soon())))
            await asyncio.sleep(0)
        else:
            topic.deliver(a if step == "read a" else b)
    for _ in range(3):
        await asyncio.sleep(0)
    fresh = writer(module_settings, topic)
    for registry in (a, b, fresh):
        topic.deliver(registry)
    results = await asyncio.gather(*adding)
    assert sum(results) == min(1, len(results))
    assert a.get("client", "c") == b.get("client", "c") == fresh.get("client", "c")


@pytest.fixture(scope="module")
def module_settings(signing_keys: Path) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap_servers="127.0.0.1:1",
        metrics_token=ReloadableTokens("m"),
        admin_token=ReloadableTokens("a"),
        signing_keys_dir=str(signing_keys),
    )


def decoded(topic: InMemoryTopic) -> list[RegistryRecord]:
    return [decode_record(record.value) for record in topic.records]


async def until_covered(topic: InMemoryTopic) -> None:
    """Wait until the last record of the key equals the readers' current one."""
    async with asyncio.timeout(5):
        while True:
            current = topic.followers[0].get("client", "c")
            if current is not None and decoded(topic)[-1] == current:
                return
            await asyncio.sleep(0.005)
