"""The steps of docs/extending.md: applied to a copy of the tree, they add a metric and a kind."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.local_run import LocalRun

pytestmark = pytest.mark.xdist_group("extending")

ROOT = Path(__file__).parents[2]
COPIED = ("contract", "service", "gateway", "processor", "exporter", "tobogganing", "tests", "docs")
REPEATING_TESTS = (
    "tests/unit/contract/test_kinds.py",
    "tests/unit/test_metrics_doc.py",
    "tests/unit/test_settings_doc.py",
    "tests/unit/tobogganing/cli/test_main.py",
    "tests/unit/gateway/api/test_openapi.py",
)
"""Tests that compare the declarations with a second list of them: steps 2 and 7 of the page."""


def patches(section: str) -> list[str]:
    """The steps of a section of the page, in their order."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^```diff\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree in which both sections of the page were followed."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.png")
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    for patch in patches("Add a metric") + patches("Add a kind of entity"):
        applied = subprocess.run(
            ["git", "apply", "-"],
            cwd=tree,
            input=patch,
            capture_output=True,
            text=True,
            check=False,
        )
        assert applied.returncode == 0, f"{applied.stderr}\n{patch}"
    return tree


@pytest.fixture(scope="module")
def run(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    """The changed tree with a real Kafka."""
    state = tmp_path_factory.mktemp("extending") / "state"
    environ = {"PYTHONPATH": str(tree)}  # of the services, which run in other folders
    with LocalRun(state, environ=environ, tree=tree) as run:
        run.until_ready()
        yield run


def post(run: LocalRun, path: str, token: str, body: dict[str, object]) -> dict[str, str]:
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{run.url}/api/v1/{path}", headers=headers, json=body, trust_env=False)
    assert response.status_code == 200, response.text
    answer: dict[str, str] = response.json()
    return answer


def scrape(run: LocalRun, receipt: str) -> str:
    response = httpx.get(
        f"{run.url}/metrics?after={receipt}",
        headers={"authorization": f"Bearer {run.secret('METRICS_TOKEN').strip()}"},
        timeout=20,
        trust_env=False,
    )
    assert response.status_code == 200, response.text
    return response.text


def value(scrape: str, name: str, label: str) -> float:
    """The value of the one sample of a family, which must have the label."""
    (sample,) = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", scrape, re.MULTILINE)
    labels, number = sample
    assert label in labels.split(",")
    return float(number)


def test_an_added_metric_has_a_series(run: LocalRun) -> None:
    admin = run.secret("ADMIN_TOKEN").strip()
    client = post(
        run, "clients/register", admin, {"client_id": "anna", "name": "A", "type": "native"}
    )
    sent: dict[str, object] = {"metrics": {"reconnects": 3, "bytes_sent": 1}}
    submitted = post(run, "clients/anna/metrics", client["api_key"], sent)
    assert "ignored" not in submitted
    shown = scrape(run, submitted["receipt"])
    assert value(shown, "tobogganing_client_reconnects", 'client_id="anna"') == 3
    assert "# HELP tobogganing_client_reconnects Times that the tunnel was set up again\n" in shown


def test_an_entity_of_an_added_kind_has_series(run: LocalRun) -> None:
    added = run.command("probes", "add", "Cellar", "--id", "p1", "--json")
    assert added.returncode == 0, added.stderr
    key = json.loads(added.stdout)["api_key"]
    submitted = post(run, "probes/p1/metrics", key, {"metrics": {"temperature": 21}})
    shown = scrape(run, submitted["receipt"])
    assert value(shown, "tobogganing_probe_temperature_celsius", 'name="Cellar"') == 21
    assert value(shown, "tobogganing_probe_last_check_in_timestamp", 'probe_id="p1"') > 1.7e9

    removed = run.command("probes", "remove", "p1", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert run.command("probes", "list").stdout.count("p1") == 0


def test_the_tests_that_repeat_the_declarations_pass(tree: Path) -> None:
    """None of them fails, so the page omits no step."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *REPEATING_TESTS],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
