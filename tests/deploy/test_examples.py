"""examples/ on the real pipeline: in outages, with faults, and with the commands of their
README."""

import asyncio
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from service.config.settings import KafkaSettings
from tests.deploy import fleet, programs
from tests.deploy.agents import POLL, ExampleAgent
from tests.deploy.fleet import EXAMPLES, NAMES
from tests.deploy.pipeline import DeployedPipeline, shown, total
from tests.deploy.readme import commands
from tests.shared_kafka import SharedKafka

README = commands(EXAMPLES / "README.md")
WG = """#!/bin/sh
[ "$*" = "show wg0 latest-handshakes" ] && printf 'a\\t%s\\nb\\t%s\\n' "$(date +%s)" 1000
"""
"""Prints the last handshakes of two peers, one of them recent."""
pytestmark = pytest.mark.xdist_group("examples")

on_the_pipeline = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    kafka: SharedKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DeployedPipeline]:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topic_prefix=f"test-{uuid.uuid4().hex[:12]}.",
    )
    async with DeployedPipeline(
        settings, tmp_path_factory.mktemp("pipeline")
    ).running() as pipeline:
        yield pipeline


@pytest_asyncio.fixture(loop_scope="module")
async def agents(
    pipeline: DeployedPipeline, go_binaries: Path, tmp_path: Path
) -> AsyncIterator[list[ExampleAgent]]:
    """One of each, registered."""
    made = []
    for name in NAMES:
        id = f"{name}-{uuid.uuid4().hex[:6]}"
        key = await pipeline.register("headend" if "headend" in name else "client", id)
        url = pipeline.gateway.url
        made.append(fleet.agent(name, go_binaries, tmp_path, url, id, key))
    yield made
    for each in made:
        await each.kill()


@on_the_pipeline
async def test_nothing_that_was_queued_is_lost_by_an_outage_or_a_kill(
    pipeline: DeployedPipeline, agents: list[ExampleAgent]
) -> None:
    async def all_of(step: Callable[[ExampleAgent], Awaitable[None]]) -> None:
        await asyncio.gather(*map(step, agents))

    await all_of(lambda each: each.start())
    await all_of(lambda each: each.until_sent(2))
    await pipeline.gateway.end(signal.SIGKILL)
    for each in agents:
        each.machine.go_on()
    await all_of(lambda each: each.until_waiting(3))
    await all_of(lambda each: each.kill())
    queued = [each.waiting() for each in agents]
    await all_of(lambda each: each.start())
    await all_of(lambda each: each.until_waiting(6))
    queued = [samples | each.waiting() for samples, each in zip(queued, agents, strict=True)]
    await pipeline.gateway.start()
    await asyncio.gather(*map(ExampleAgent.until_gone, agents, queued))
    await pipeline.admin("auth/revoke", node_id=agents[1].id, node_type="headend")
    await all_of(lambda each: each.until_sent(2))
    await all_of(lambda each: each.stop())
    await all_of(lambda each: each.flush())

    submitted, scrape = await pipeline.settled()
    for each, samples in zip(agents, queued, strict=True):
        arrived = set(submitted.samples[each.key])
        assert len(samples) >= 6
        assert samples <= arrived, each.log()
        assert each.count("sent") == len(arrived)
        assert each.count("dropped") == each.count("rejected_total") == 0
        last = max(sample.timestamp for sample in arrived)
        assert shown(scrape, f"tobogganing_{each.kind}_last_check_in_timestamp", each.id) == last
    for each in agents:
        sees_what_its_machine_shows(scrape, each)
    # Submissions without a response were sent again: the second copy counts as applied or stale.
    applied, stale = (
        total(scrape, f"tobogganing_pipeline_{n}_total") for n in ("applied", "stale")
    )
    assert applied + stale == total(scrape, "tobogganing_pipeline_read_total") == submitted.number
    assert applied >= submitted.different
    headend = submitted.samples[agents[1].key]
    assert any(dict(sample.metrics).get("bandwidth_out", 0) > 0 for sample in headend)


def sees_what_its_machine_shows(scrape: str, agent: ExampleAgent) -> None:
    """The last values are those of the last sample."""
    sent = agent.machine.sent
    values: dict[str, float] = {
        "bytes_sent": sent,
        "bytes_received": 2 * sent,
        "packets_sent": 3,
        "packets_received": 4,
        "connection_uptime_seconds": 3600.25,
    }
    if agent.kind == "headend":
        values = {
            "active_connections": sent / 1000,
            "cpu_usage_percent": 60,
            "memory_usage_bytes": 600 * 1024,
        }
    for name, value in values.items():
        assert shown(scrape, f"tobogganing_{agent.kind}_{name}", agent.id) == value
    headless = "true" if "shell" in agent.folder.name else "false"
    assert agent.kind == "headend" or f'"{agent.id}",headless="{headless}"' in scrape


@pytest_asyncio.fixture(loop_scope="module")
async def newcomers(
    pipeline: DeployedPipeline, go_binaries: Path, tmp_path: Path
) -> AsyncIterator[list[ExampleAgent]]:
    """One of each, with the token of an enrolment, without id and key."""
    cluster = await pipeline.admin("clusters/register", name="a", region="eu", datacenter="b")
    of_kind = {
        "client": {"type": "native"},
        "headend": {"cluster_id": cluster["cluster_id"]},
    }
    made = []
    for name in NAMES:
        each = fleet.agent(name, go_binaries, tmp_path, pipeline.gateway.url)
        body = {"name": name, "kind": each.kind, "max_uses": 1, **of_kind[each.kind]}
        enrolment = await pipeline.admin("enrolments", **body)
        (each.folder / "key").unlink()
        (each.folder / "token").write_text(enrolment["token"])
        each.environ["ENROLMENT_TOKEN_FILE"] = str(each.folder / "token")
        del each.environ[f"{each.kind.upper()}_ID"]
        made.append(each)
    yield made
    for each in made:
        await each.kill()


@on_the_pipeline
async def test_agents_enrol_and_replace_their_keys_through_outages_and_kills(
    pipeline: DeployedPipeline, newcomers: list[ExampleAgent]
) -> None:
    """They start without id and key; the enrolment of each has one use."""
    await pipeline.gateway.end(signal.SIGKILL)
    for each in newcomers:
        assert await each.once() == 1
        await each.start()
    await pipeline.gateway.start()
    await asyncio.gather(*(each.until_sent(2) for each in newcomers))
    first = [(each.folder / "key").read_text() for each in newcomers]
    for each in newcomers:
        await each.kill()
        each.environ["ROTATE_KEY_DAYS"] = "0.00002"  # 2 s: five old keys are valid at most
        await each.start()
    for _ in range(3):
        await asyncio.gather(*(each.until_sent(2) for each in newcomers))
        await asyncio.gather(*(each.kill() for each in newcomers))
        await pipeline.gateway.end(signal.SIGKILL)
        for each in newcomers:
            await each.start()
        await pipeline.gateway.start()
    await asyncio.gather(*(each.until_sent(2) for each in newcomers))
    for each, key in zip(newcomers, first, strict=True):
        await each.kill()
        await each.flush()
        assert (each.folder / "key").read_text() != key, each.log()
        assert (each.folder / "key").stat().st_mode & 0o777 == 0o600
        assert each.count("dropped") == each.count("rejected_total") == 0
        each.id = (each.folder / "key.id").read_text().strip()
    submitted, scrape = await pipeline.settled()
    for each in newcomers:
        # After a kill between a response and the count, the count is too low.
        assert len(set(submitted.samples[each.key])) >= each.count("sent")
        sees_what_its_machine_shows(scrape, each)


@on_the_pipeline
async def test_a_refused_key_is_told_and_the_samples_wait_for_another(
    agents: list[ExampleAgent],
) -> None:
    for each in agents:
        key = (each.folder / "key").read_text()
        (each.folder / "key").write_text("another")
        assert await each.once() == 1
        assert len(each.waiting()) == 1
        assert "401" in each.log()
        (each.folder / "key").write_text(key)
        await each.flush()
        assert each.count("sent") >= 2
        assert each.count("rejected_total") == 0


@on_the_pipeline
async def test_a_sample_that_is_never_taken_is_set_aside_and_the_others_arrive(
    pipeline: DeployedPipeline, agents: list[ExampleAgent]
) -> None:
    for each in agents:
        url, each.environ["MANAGER_URL"] = each.environ["MANAGER_URL"], "http://127.0.0.1:1"
        for _ in range(5):
            assert await each.once() == 1
        spoilt = sorted((each.folder / "queue/waiting").iterdir())[2]
        spoilt.write_text(spoilt.read_text().replace('"metrics":', '"metrics":7,"were":'))
        each.environ["MANAGER_URL"] = url
        await each.flush()
        (rejected,) = each.rejected()
        assert "400" in rejected
        assert "were" in rejected
        assert each.count("rejected_total") == 1
    submitted, scrape = await pipeline.settled()
    for each in agents:
        assert len(set(submitted.samples[each.key])) == each.count("sent") >= 5
        sees_what_its_machine_shows(scrape, each)


@pytest.fixture
def newcomer(go_binaries: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has cloned the project and follows the README."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/wg").write_text(WG)
    (tmp_path / "bin/wg").chmod(0o755)
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    environ = programs.go_environ()
    return environ | {
        "PATH": f"{tmp_path}/bin:{environ['PATH']}",
        "API_KEY_FILE": str(tmp_path / "key"),
        "QUEUE_DIR": str(tmp_path / "queue"),
        "INTERFACE": "lo",
        "INTERVAL_SECONDS": "0.2",
        "SPREAD_SECONDS": "0",
    }


@on_the_pipeline
@pytest.mark.parametrize("heading", README)
async def test_the_commands_of_the_readme_do_what_it_says(
    heading: str, pipeline: DeployedPipeline, newcomer: dict[str, str], tmp_path: Path
) -> None:
    kind = heading.split()[0].lower()
    id = f"{kind}-{uuid.uuid4().hex[:6]}"
    (tmp_path / "key").write_text(await pipeline.register(kind, id))
    newcomer |= {"MANAGER_URL": pipeline.gateway.url, f"{kind.upper()}_ID": id}
    lines = [line for line in README[heading] if not line.startswith("docker ")]
    for line in lines[:2]:
        done = await asyncio.create_subprocess_shell(line, cwd=tmp_path, env=newcomer)
        assert await done.wait() == 0, line
    sent = tmp_path / "queue/sent"
    assert sent.read_text() == "1\n"
    if len(lines) > 2:
        running = await asyncio.create_subprocess_shell(
            lines[2], cwd=tmp_path, env=newcomer, start_new_session=True
        )
        async with asyncio.timeout(30):
            while int(sent.read_text()) < 3:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        os.killpg(running.pid, signal.SIGTERM)
        await running.wait()
    _, scrape = await pipeline.settled()
    if kind == "headend":
        assert shown(scrape, "tobogganing_headend_active_connections", id) == 1
    else:
        assert shown(scrape, "tobogganing_client_bytes_sent", id) > 0
