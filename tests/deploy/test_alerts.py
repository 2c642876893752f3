"""Prometheus's configuration and alerts, as promtool judges them."""

import re
import subprocess
from pathlib import Path

from contract.kinds import KINDS
from tests.deploy.compose import ROOT
from tests.e2e.prometheus import Programs

PROMETHEUS = ROOT / "deploy" / "prometheus"


def promtool(programs: Programs, *arguments: str | Path) -> None:
    result = subprocess.run(
        [programs.promtool, *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_configuration_is_valid(prometheus_programs: Programs) -> None:
    promtool(prometheus_programs, "check", "config", "--syntax-only", "prometheus.yml")


def test_the_rules_are_valid(prometheus_programs: Programs) -> None:
    promtool(prometheus_programs, "check", "rules", "--lint-fatal", "alerts.yml")


def test_the_alerts_come_when_they_should(prometheus_programs: Programs) -> None:
    promtool(prometheus_programs, "test", "rules", "alerts_test.yml")


def test_annotations_use_labels_that_the_series_have() -> None:
    rules = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8").split("- alert: ")[1:]
    assert len(rules) == 3
    families = {metric.name: kind for kind in KINDS.values() for metric in kind.families}
    for rule in rules:
        (family,) = re.findall(r"\btobogganing_\w+", rule)
        used = set(re.findall(r"\$labels\.(\w+)", rule))
        assert used
        assert used <= set(families[family].label_names)
