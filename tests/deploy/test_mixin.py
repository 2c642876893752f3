"""The mixin for jsonnet: the same dashboards and rules as the files."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.deploy import program_log, programs
from tests.deploy.grafana import GRAFANA, dashboards
from tests.deploy.kubectl import load_yaml
from tests.e2e.prometheus import Programs

RULES = GRAFANA.parent / "prometheus" / "rules"


def evaluated(expression: str) -> Any:
    """The value of a jsonnet expression with the variable `mixin`."""
    jsonnet = programs.jsonnet()
    program_log.note("jsonnet")
    text = f"local mixin = import '{GRAFANA}/mixin.libsonnet'; {expression}"
    done = subprocess.run(
        [jsonnet.path, "--exec", text],
        env=jsonnet.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_has_every_dashboard() -> None:
    made = evaluated("mixin.grafanaDashboards")
    by_uid = {each["uid"]: each for each in made.values()}
    assert by_uid == {each.json["uid"]: each.json for each in dashboards()}
    assert set(made) == {f"{uid}.json" for uid in by_uid}


def test_the_label_of_installations_can_be_another() -> None:
    made = evaluated("(mixin + {_config+:: {clusterLabel: 'site'}}).grafanaDashboards")
    for board in made.values():
        text = json.dumps(board)
        assert 'site=~\\"$cluster\\"' in text
        assert 'cluster=~\\"$cluster\\"' not in text.replace('site=~\\"$cluster\\"', "")


def test_it_has_every_rule(tmp_path: Path, prometheus_programs: Programs) -> None:
    found = []
    for kind in ("prometheusAlerts", "prometheusRules"):
        made = evaluated(f"mixin.{kind}")
        found += [rule for group in made["groups"] for rule in group["rules"]]
        file = tmp_path / f"{kind}.yml"  # JSON is YAML
        file.write_text(json.dumps(made), encoding="utf-8")
        subprocess.run([prometheus_programs.promtool, "check", "rules", file], check=True)
    rules = [
        rule
        for file in sorted(RULES.glob("*.yml"))
        for document in load_yaml(file.read_text(encoding="utf-8"))
        for group in document["groups"]
        for rule in group["rules"]
    ]
    assert _ordered(found) == _ordered(rules)


def _ordered(rules: list[Any]) -> list[str]:
    """The rules as text, with single spaces: Jsonnet folds the lines of an expression."""
    text = [json.dumps(rule, sort_keys=True).replace("\\n", " ") for rule in rules]
    return sorted(" ".join(each.split()) for each in text)
