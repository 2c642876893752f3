"""docker-compose.yml on a Docker engine: what a user does with an installation, in this order."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docker import shell_agent
from tests.docker.fleet import Fleet, register_client
from tests.docker.installation import PROMETHEUS, Installation, trusting, wait_for
from tests.docker.shell_agent import ShellAgent

OURS = ("gateway", "processor", "exporter")
KILLED = (
    *("kafka-1", "kafka-2", "kafka-3", "gateway", "processor", "exporter", "edge"),
    *("prometheus", "alertmanager", "victoria-week", "victoria-long", "months"),
)
TARGETS = {
    "tobogganing-manager": 1,
    "tobogganing-fleet": 1,
    "tobogganing-gateway": 2,
    "tobogganing-processor": 2,
    "tobogganing-exporter": 2,
    "edge": 1,
    "prometheus": 1,
    # Two of VictoriaMetrics, vmalert, Alertmanager.
    "stores": 4,
}
"""Jobs of Prometheus, with the number of their targets."""
COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "as", "make")
KILL = 128 + 9
"""The exit code of a container that ignores SIGTERM for its `stop_grace_period`."""
FILES = 10_200
"""Open files that a service of 10,000 connections needs."""


@pytest.fixture(scope="module")
def fleet(installation: Installation) -> Fleet:
    return Fleet(installation)


@pytest.fixture(scope="module")
def agent(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ShellAgent]:
    agent = ShellAgent(installation, tmp_path_factory.mktemp("agent"))
    yield agent
    agent.remove()


def identities(installation: Installation) -> dict[str, str]:
    return {name: str(each["Id"]) for name, each in installation.containers().items()}


@pytest.mark.usefixtures("private_clone")
def test_it_starts_from_a_clone_that_only_its_owner_can_read(installation: Installation) -> None:
    installation.make_env()
    installation.compose("build")
    seconds = installation.up()
    print(f"healthy in {seconds:.0f} s")
    states = {n: each["State"] for n, each in installation.containers().items()}
    assert len(states) >= 15
    assert {state["Health"]["Status"] for state in states.values()} == {"healthy"}


def test_another_up_recreates_nothing(installation: Installation) -> None:
    before = identities(installation)
    installation.up()
    assert identities(installation) == before


def test_the_image_says_what_it_is_and_has_no_compiler(installation: Installation) -> None:
    (gateway, *_) = installation.containers("gateway").values()
    labels = gateway["Config"]["Labels"]
    version = re.search(
        r'^version = "(.+)"$', (installation.folder / "pyproject.toml").read_text(), re.M
    )
    assert version is not None
    assert labels["org.opencontainers.image.version"] == version[1]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert gateway["Config"]["User"] == "10001:10001"
    script = f"for name in {' '.join(COMPILERS)}; do command -v $name; done; id -u"
    found = installation.compose("exec", "-T", "gateway", "sh", "-c", script)
    assert found.split() == ["10001"]


def test_a_submission_is_shown(installation: Installation, fleet: Fleet) -> None:
    """Over HTTP, and over TLS with the certificate of the first start."""
    fleet.register("client")
    fleet.report()
    fleet.assert_all_shown()
    text = installation.compose("exec", "-T", "edge", "cat", "/var/lib/tobogganing/tls/edge.pem")
    trust = trusting(text)
    fleet.report("https://localhost:8443", trust)
    with installation.http("https://localhost:8443", verify=trust) as http:
        assert http.get("/metrics").status_code == 200
        assert http.get("/api/v1/ledger").status_code == 200
        assert http.get("/-/metrics").status_code == 404
    fleet.assert_all_shown()


def test_the_shell_agent_starts_as_its_readme_says(
    installation: Installation, agent: ShellAgent
) -> None:
    agent.start(register_client(installation, shell_agent.ID))
    assert agent.health() == "starting"


def ask(path: str, **parameters: str) -> Any:
    response = httpx.get(f"{PROMETHEUS}/api/v1/{path}", params=parameters, trust_env=False)
    response.raise_for_status()
    return response.json()["data"]


def test_prometheus_sees_every_target(installation: Installation) -> None:
    def all_up() -> list[Any] | None:
        targets = ask("targets")["activeTargets"]
        return targets if all(target["health"] == "up" for target in targets) else None

    jobs = Counter(target["labels"]["job"] for target in wait_for(all_up, "targets"))
    assert jobs == TARGETS
    assert len(ask("alertmanagers")["activeAlertmanagers"]) == 1
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert rules
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    # Monthly rules are evaluated by vmalert, which says nothing if it cannot read them.
    text = installation.compose(
        "exec", "-T", "months", "wget", "-q", "-O", "-", "http://127.0.0.1:8880/api/v1/rules"
    )
    assert [group["name"] for group in json.loads(text)["data"]["groups"]] == ["tobogganing_month"]
    stored = wait_for(
        lambda: ask("query", query="tobogganing_client_bytes_sent")["result"], "query"
    )
    assert {sample["metric"]["job"] for sample in stored} == {"tobogganing-manager"}


def test_kafka_knows_every_setting_and_logs_to_standard_output_only(
    installation: Installation,
) -> None:
    (kafka,) = installation.containers("kafka-1").values()
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", ".")
        for name, _, _ in (line.partition("=") for line in kafka["Config"]["Env"])
        if name.startswith("KAFKA_") and not name.endswith("_OPTS")
    }
    known = set(
        re.findall(
            r"^\t([a-z.]+) = ", installation.compose("logs", "--no-log-prefix", "kafka-1"), re.M
        )
    )
    assert given
    assert given <= known
    assert not installation.compose("exec", "-T", "kafka-1", "ls", "/opt/kafka/logs").split()


def test_health_checks_are_not_logged(installation: Installation) -> None:
    assert "<BADREQ>" not in installation.compose("logs", "edge")


def test_services_raise_their_limit_of_open_files(installation: Installation) -> None:
    for name, each in installation.containers(*OURS).items():
        main = each["State"]["Pid"]
        (child,) = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        limits = Path(f"/proc/{child}/limits").read_text()
        (soft,) = re.findall(r"^Max open files +(\d+)", limits, re.M)
        assert int(soft) >= FILES, name


def test_gateways_are_added_in_env_and_stay(installation: Installation, fleet: Fleet) -> None:
    before = identities(installation)
    installation.set("GATEWAYS", "3")
    installation.set("PROCESSORS", "3")
    with fleet.reporting():
        installation.up()
        after = identities(installation)
        installation.up()
    assert identities(installation) == after
    assert before.items() < after.items()
    assert len(installation.containers("gateway")) == len(installation.containers("processor")) == 3
    fleet.assert_all_shown()


@pytest.mark.parametrize("service", KILLED)
def test_nothing_is_lost_when_a_process_is_killed(
    installation: Installation, fleet: Fleet, service: str
) -> None:
    container, inspected = next(iter(installation.containers(service).items()))
    with fleet.reporting():
        installation.kill_process(container)
        installation.wait_until_healthy(container, inspected["RestartCount"])
    fleet.assert_all_shown()
    with installation.http() as http:
        ledger = http.get("/api/v1/ledger").json()
    assert ledger["balances"], ledger
    for each in ledger["partitions"]:
        assert not any(each[name] for name in ("lost", "dead_lettered", "missing_records")), each


def test_the_shell_agent_has_reported_and_not_as_root(
    installation: Installation, agent: ShellAgent
) -> None:
    wait_for(lambda: agent.health() == "healthy", "health of the agent")
    assert agent.owner_of("sent") == shell_agent.UID
    assert installation.values()[shell_agent.ID] > 0


def assert_all_but_a_broker_stopped_by_themselves(installation: Installation) -> None:
    """The last broker waits for a majority that has stopped, until Docker kills it."""
    codes = {n: each["State"]["ExitCode"] for n, each in installation.containers("--all").items()}
    killed = [name for name, code in codes.items() if code == KILL]
    assert len(killed) <= 1, codes
    assert all("kafka" in name for name in killed), codes


def test_everything_is_the_same_after_down_and_up(installation: Installation, fleet: Fleet) -> None:
    def volumes() -> set[str]:
        mounts = [one for each in installation.containers().values() for one in each["Mounts"]]
        return {mount["Name"] for mount in mounts if mount["Type"] == "volume"}

    def samples() -> dict[str, str]:
        """Samples that Prometheus has from before the restart."""
        found = ask("query", query="tobogganing_client_bytes_sent", time=str(time_before))["result"]
        return {each["metric"]["client_id"]: each["value"][1] for each in found}

    before, time_before = volumes(), time.time()
    samples_before = samples()
    assert samples_before
    assert not {name for name in before if re.fullmatch(r"[0-9a-f]{64}", name)}, "anonymous volumes"
    installation.compose("stop")
    assert_all_but_a_broker_stopped_by_themselves(installation)
    installation.compose("down")
    installation.up()
    assert volumes() == before
    assert samples() == samples_before
    fleet.assert_all_shown()
    fleet.report()
    fleet.assert_all_shown()
