"""Fixtures for all tests: above all a real Kafka."""

import contextlib
import signal
import uuid
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.nodeid import NodeId

from tests import figures
from tests.long import IS_LONG
from tests.shared_kafka import SharedKafka, shared_kafka
from tobogganing.devstack.install import Install, install_kafka

# On a busy machine an example may take any time.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


FIRST = ("docker", "chaos", "hostile", "e2e", "deploy", "fuzz", "soak", "integration", "unit")
"""Folders in the order in which they run: the longest tests first, so that all processes end
together."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests of this run, and put the longest first."""
    omitted = [item for item in items if not IS_LONG and item.get_closest_marker("long")]
    if omitted:
        config.hook.pytest_deselected(items=omitted)
        items[:] = [item for item in items if item not in omitted]
    items.sort(key=_rank)
    if hasattr(config, "workerinput"):
        _append_groups(items)


def _append_groups(items: list[pytest.Item]) -> None:
    """Append its xdist_group to the id of each test: it is scheduled by that, in one process with
    the others of the group.

    xdist 3.8.0 does so, but sets an attribute that pytest 9.2.0 no longer reads.
    `tests/unit/test_groups.py` fails without it.
    """
    for item in items:
        names = sorted({mark.args[0] for mark in item.iter_markers("xdist_group")})
        suffix = f"@{'_'.join(names)}"
        if names and not item.nodeid.endswith(suffix):
            item._id = NodeId.parse(item.nodeid + suffix)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return FIRST.index(folder)


@pytest.fixture(scope="session")
def kafka_install() -> Install:
    """Java and Kafka, downloaded into the cache if they are missing."""
    return install_kafka()


_resources = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    # A background job of a shell ignores Ctrl+C, and the commands that tests start would inherit
    # that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_resources] = contextlib.ExitStack()


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest,
    kafka_install: Install,
    tmp_path_factory: pytest.TempPathFactory,
) -> SharedKafka:
    """A real broker, one for the whole run: no test may break it.

    It is released at the end of the session, not in the teardown of a test: there the time limit
    of a test would apply to the wait for the other processes.
    """
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    shared = shared_kafka(folder / "kafka", kafka_install)
    return request.config.stash[_resources].enter_context(shared)


@pytest.fixture
def topic_prefix() -> str:
    return fresh_topic_prefix()


def fresh_topic_prefix() -> str:
    """Return a KAFKA_TOPIC_PREFIX: the session's broker has no topic that starts so."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Release the broker, and pass measured figures to the process that prints the summary."""
    session.config.stash[_resources].close()
    if output := getattr(session.config, "workeroutput", None):
        output["figures"] = figures.told


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the figures of a test process that has ended or crashed."""
    figures.told.extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures.told:
        terminalreporter.section("figures")
        for line in figures.told:
            terminalreporter.write_line(line)
