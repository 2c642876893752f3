"""The output of `tobogganing plan`."""

import json
import re

import pytest
from click.testing import CliRunner

from tobogganing.cli.main import cli
from tobogganing.cli.plan import WIDTH, rate, size


def test_json_and_the_table_agree() -> None:
    words = ["plan", "--clients", "1000000", "--headends", "50", "--interval", "300"]
    found = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert [part["part"] for part in found["parts"]] == [
        *("edge", "gateway", "processor", "exporter", "broker"),
    ]
    assert found["submissions_a_second"] == pytest.approx(1_000_000 / 300 + 50 / 30)
    assert found["series"] == 6 * 1_000_050
    shown = CliRunner().invoke(cli, words).output
    for part in found["parts"]:
        (numbers,) = re.findall(rf"^{part['part']} +(\d+) +(\d+) ", shown, re.MULTILINE)
        assert numbers == (str(part["number"]), str(part["cores"]))
        assert f"{part['part']} {part['why']}" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= WIDTH


def test_the_default_number_of_headends() -> None:
    assert "2 headends every 30 s" in CliRunner().invoke(cli, ["plan", "--clients", "1001"]).output


@pytest.mark.parametrize("words", [["--clients", "0"], ["--interval", "0.5"], ["--batch", "0"]])
def test_an_impossible_fleet_is_refused(words: list[str]) -> None:
    assert CliRunner().invoke(cli, ["plan", *words]).exit_code == 2


def test_sizes_have_units() -> None:
    assert [size(n) for n in (5e2, 1.26e6, 45e6, 3.2e9, 18e12)] == [
        *("0.5 kB", "1.3 MB", "45 MB", "3.2 GB", "18 TB"),
    ]
    assert rate(45_000) == "0.4 Mbit/s"
    assert rate(5e6) == "40 Mbit/s"
