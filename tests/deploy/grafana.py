"""Grafana's dashboards as Grafana reads them: panels, variables, queries."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.compose import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
DATA_SOURCE = "${datasource}"
PROVISIONED = "tobogganing"
"""The data source of docker-compose.yml."""
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class PanelQuery:
    """One query of one panel."""

    panel: str
    expr: str
    instant: bool

    def filled(self, values: Mapping[str, str]) -> str:
        """The query as Grafana sends it."""
        return fill(self.expr, values)


@dataclass(frozen=True)
class Variable:
    """A variable whose values Prometheus returns: those of a label."""

    name: str
    selector: str
    label: str
    all: str
    """Its value for "All"; empty if that cannot be chosen."""


class Dashboard:
    """One file."""

    def __init__(self, file: Path) -> None:
        self.name = file.stem
        self.json: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))

    @property
    def panels(self) -> list[dict[str, Any]]:
        """All panels except the headings."""
        return [panel for panel in self.json["panels"] if panel["type"] != "row"]

    def queries(self) -> Iterator[PanelQuery]:
        for panel in self.panels:
            for target in panel["targets"]:
                yield PanelQuery(panel["title"], target["expr"], target.get("instant", False))

    def variables(self) -> Iterator[Variable]:
        for each in self.json["templating"]["list"]:
            if each["type"] == "query":
                found = LABEL_VALUES.fullmatch(each["query"]["query"])
                assert found, each
                yield Variable(each["name"], found[1], found[2], each.get("allValue", ""))

    def text_boxes(self) -> dict[str, str]:
        boxes = self.json["templating"]["list"]
        return {each["name"]: each["query"] for each in boxes if each["type"] == "textbox"}


def dashboards() -> list[Dashboard]:
    found = [Dashboard(file) for file in sorted((GRAFANA / "dashboards").iterdir())]
    assert found
    return found


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace variables by values.

    Raises:
        KeyError: a variable has no value.
    """
    return VARIABLE.sub(lambda found: values[found[1]], text)
