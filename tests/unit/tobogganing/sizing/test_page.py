"""docs/capacity.md has the output and the figures of `tobogganing plan`."""

import re
from pathlib import Path

from tests.capacity import PAGE, worked
from tests.unit.tobogganing.sizing.test_figures import FIGURES
from tobogganing import sizing

RULES = Path(__file__).parents[4] / "deploy" / "prometheus" / "rules"


def test_the_examples_are_the_output_of_plan() -> None:
    page = PAGE.read_text("utf-8")
    assert len(re.findall("<!-- plan: --clients (10000|1000000) --interval 60 -->", page)) == 2
    assert page == worked(page), "run python -m tests.capacity"


def test_the_formula_has_every_figure() -> None:
    formula = PAGE.read_text("utf-8").partition("## The formula")[2].partition("\n## ")[0]
    numbers = {float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?", formula)}
    missing = [
        f"{name}: {figure:g}"
        for name in FIGURES
        if name != "SCRAPE_BYTES" and not {figure := getattr(sizing, name), round(figure)} & numbers
    ]
    assert missing == []
    for count in (sizing.SUBMISSION_BYTES, sizing.FRAME_BYTES, sizing.ROW_BYTES):
        assert count in numbers


def test_recorded_series_are_counted() -> None:
    text = "".join(file.read_text("utf-8") for file in RULES.glob("*.yml"))
    page = PAGE.read_text("utf-8")
    clients = len(re.findall(r"record: tobogganing:client_", text))
    headends = len(re.findall(r"record: tobogganing:headend_", text))
    assert f"for each client {clients}, for each headend {headends} that the recording" in page
