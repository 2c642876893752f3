"""docs/capacity.md has the output and the figures of `tobogganing plan`."""

import re
from pathlib import Path

from tests.capacity import PAGE, tabulated, worked
from tobogganing.sizing import constants

RULES = Path(__file__).parents[4] / "deploy" / "prometheus" / "rules"


def test_the_examples_are_the_output_of_plan() -> None:
    page = PAGE.read_text("utf-8")
    assert len(re.findall("<!-- plan: --clients (10000|1000000) --interval 60 -->", page)) == 2
    assert "<!-- plan: --clients 1000000 --interval 60 --connections kept -->" in page
    assert page == worked(page), "run python -m tests.capacity"


def test_every_figure_is_listed_with_its_source() -> None:
    page = PAGE.read_text("utf-8")
    assert page == tabulated(page), "run python -m tests.capacity"


def test_the_formula_has_the_sizes_of_records() -> None:
    formula = PAGE.read_text("utf-8").partition("## The formula")[2].partition("\n## ")[0]
    numbers = {float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?", formula)}
    for count in (
        *(
            constants.SUBMISSION_BYTES,
            constants.PACKED_SUBMISSION_BYTES,
            constants.PACKED_FRAME_BYTES,
        ),
        *(constants.ROW_BYTES, constants.REGISTRY_BYTES, constants.EDGE_CONNECTION),
    ):
        assert count in numbers


def test_recorded_series_are_counted() -> None:
    text = "".join(file.read_text("utf-8") for file in RULES.glob("*.yml"))
    page = PAGE.read_text("utf-8")
    clients = len(re.findall(r"record: tobogganing:client_", text))
    headends = len(re.findall(r"record: tobogganing:headend_", text))
    assert f"for each client {clients}, for each headend {headends} that the recording" in page
