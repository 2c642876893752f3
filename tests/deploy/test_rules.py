"""Prometheus's configuration, rules and alerts, checked by promtool and vmalert."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contract.kinds import CLIENT, HEADEND, KINDS
from tests.deploy import program_log, programs
from tests.deploy.compose import ROOT, DockerCompose
from tests.e2e.prometheus import Programs

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*_test.yml"))
GUIDE = ["ClientOffline", "HeadendHighCPU", "HeadendDown"]
OURS = [
    "AuthenticationFailures",
    "CardinalityLimit",
    "ClientGroupSilent",
    "ClientSilenceExplained",
    "DeadLetters",
    "FleetTotalsBehind",
    "HeadendGroupSilent",
    "HeadendSilenceExplained",
    "LedgerOutOfBalance",
    "MetricsMissing",
    "PartitionStopped",
    "PipelineLagGrowing",
    "PipelineStuck",
    "RecordsLost",
    "ScrapeStale",
    "ServiceDown",
    "SourceMissing",
    "SourceWentBack",
    "StoppedPartitionsUnknown",
    "SubmissionAnomalies",
    "SubmissionsExpireUnread",
    "UnreadableRows",
]

MUTES = "SilenceExplained"
"""Suffix of alerts that notify nobody: they mute others."""

Rule = dict[str, Any]


def promtool(found: Programs, *arguments: str | Path) -> None:
    program_log.note("promtool")
    done = subprocess.run(
        [found.promtool, *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def rules(docker_compose: DockerCompose) -> list[Rule]:
    """Every rule of deploy/, with the name of its file."""
    found = []
    for file in [*RULES, *(DEPLOY / "vmalert").glob("*.yml")]:
        groups = docker_compose.load_yaml(file.read_text(encoding="utf-8"))["groups"]
        found += [rule | {"file": file.name} for group in groups for rule in group["rules"]]
    return found


@pytest.fixture
def alerts(rules: list[Rule]) -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


@pytest.fixture
def recorded(rules: list[Rule]) -> set[str]:
    return {rule["record"] for rule in rules if "record" in rule}


def test_the_configuration_is_valid(prometheus_programs: Programs) -> None:
    # --syntax-only: it names files that only the containers have.
    promtool(prometheus_programs, "check", "config", "--syntax-only", "prometheus.yml")


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_the_rules_are_valid(prometheus_programs: Programs, file: Path) -> None:
    promtool(prometheus_programs, "check", "rules", "--lint-fatal", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_the_rules_do_what_they_should(prometheus_programs: Programs, file: Path) -> None:
    promtool(prometheus_programs, "test", "rules", file)


def test_the_rules_for_months_are_valid() -> None:
    vmalert = programs.vmalert()
    command = [str(vmalert.path), "-dryRun", f"-rule={DEPLOY}/vmalert/*.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_all_alerts_are_there(alerts: dict[str, Rule]) -> None:
    assert sorted(alerts) == sorted(GUIDE + OURS)


def test_every_alert_has_a_case_in_which_it_comes_and_one_in_which_it_does_not(
    docker_compose: DockerCompose, alerts: dict[str, Rule]
) -> None:
    comes: set[str] = set()
    stays_away: set[str] = set()
    for file in TESTS:
        for test in docker_compose.load_yaml(file.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", []):
                (comes if case.get("exp_alerts") else stays_away).add(case["alertname"])
                inputs = len(test["input_series"])
                if inputs > len(case.get("exp_alerts") or []) > 0:
                    stays_away.add(case["alertname"])  # not for the other series
    assert comes == set(alerts)
    assert stays_away == set(alerts)


def test_every_alert_has_a_severity_and_a_section_in_the_runbook(alerts: dict[str, Rule]) -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}
    for name, alert in alerts.items():
        assert alert["labels"]["severity"] in {"warning", "critical"} or name.endswith(MUTES)
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert name in sections


def test_annotations_of_the_guide_s_alerts_use_labels_that_the_series_have(
    alerts: dict[str, Rule],
) -> None:
    families = {metric.name: kind for kind in KINDS.values() for metric in kind.families}
    for name in GUIDE:
        (family,) = re.findall(r"\btobogganing_\w+", alerts[name]["expr"])
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(alerts[name]["annotations"])))
        assert used
        assert used <= set(families[family].label_names)


def test_every_metric_that_a_rule_names_exists(rules: list[Rule], recorded: set[str]) -> None:
    documented = set(
        re.findall(r"^\| `(tobogganing_\w+)`", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M)
    )
    for rule in rules:
        names = set(re.findall(r"\btobogganing[_:][\w:]+", rule["expr"]))
        unknown = names - documented - recorded
        assert not unknown, f"{rule['file']} asks for {unknown}"


def test_every_family_has_its_averages(recorded: set[str]) -> None:
    for kind in KINDS.values():
        for metric in kind.metrics:
            name = metric.name.removeprefix("tobogganing_")
            assert f"tobogganing:{name}:avg5m" in recorded
    for kind in (CLIENT, HEADEND):
        name = kind.last_check_in.name.removeprefix("tobogganing_")
        assert f"tobogganing:{name}:max5m" in recorded


def test_means_take_only_those_that_checked_in_lately(rules: list[Rule]) -> None:
    limits = {CLIENT: 900, HEADEND: 300}
    for kind, limit in limits.items():
        for metric in kind.metrics:
            means = re.compile(rf"(?:avg|max)_over_time\(\(?{metric.name}\b")
            found = [rule["expr"] for rule in rules if means.search(rule["expr"])]
            assert found, metric.name
            for expr in found:
                assert f"{kind.last_check_in.name} > time() - {limit}" in expr


def test_what_is_counted_and_what_is_measured_has_its_months(recorded: set[str]) -> None:
    totals = [m.name for m in CLIENT.metrics if re.search(r"_(bytes|packets)_", m.name)]
    assert len(totals) == 4
    for total in totals:
        name = total.removeprefix("tobogganing_")
        assert {
            f"tobogganing:{name}:{what}" for what in ("increase5m", "increase1h", "increase_month")
        } <= recorded
    for metric in HEADEND.metrics:
        name = metric.name.removeprefix("tobogganing_")
        whats = ("avg1h", "max1h", "avg_month", "max_month")
        assert {f"tobogganing:{name}:{what}" for what in whats} <= recorded
