"""What tests of every kind may ask for: above all a real Kafka."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from tests import figures
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install, install_kafka

# A machine that is busy makes no example wrong.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def kafka_install() -> Install:
    """Java and Kafka, fetched into the cache where they are missing."""
    return install_kafka()


@pytest.fixture(scope="session")
def kafka(kafka_install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real broker, one for the whole session; `kafka.bootstrap_servers` is where it is."""
    cluster = Cluster(tmp_path_factory.mktemp("kafka"), kafka_install)
    with asyncio.Runner() as runner:
        runner.run(cluster.start())
        yield cluster
        runner.run(cluster.stop())


@pytest.fixture
def topic_prefix() -> str:
    """A fresh KAFKA_TOPIC_PREFIX: the session's broker has no topic that starts so."""
    return f"test-{uuid.uuid4().hex[:12]}."


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was measured to the process that prints the summary, if tests run in several."""
    if output := getattr(session.config, "workeroutput", None):
        output["figures"] = figures.told


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it from a process that has run its tests, or has died of one."""
    figures.told.extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures.told:
        terminalreporter.section("figures")
        for line in figures.told:
            terminalreporter.write_line(line)
