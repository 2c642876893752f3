"""Tables and plots, and their places in the page."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import report
from bench.edge import configuration
from bench.goals import reached
from bench.plans import WHOLE
from bench.rounds import Measurements
from tobogganing.devstack.run_config import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"


def measured() -> list[Measurements]:
    ours = Measurements("Gateway", "Tobogganing gateway", "32 connections, API keys, 4 partitions")
    ours.add(**{"cpu gateway": 50.0, "cpu Kafka": 10.0, "per second": 15_000.0})
    ours.add(**{"cpu gateway": 70.0, "cpu Kafka": 10.0, "per second": 13_000.0})
    ours.add(**{"cpu gateway": 52.0, "cpu Kafka": 12.0, "per second": 14_000.0})
    ours.add(**{"p50 ms": 1.0, "p99 ms": 2.0})
    peer = Measurements("Gateway", "Peer", "32 connections")
    for spent in (120.0, 160.0, 300.0):  # 2, 2 and 4.7 times ours of the same round
        peer.add(**{"cpu Peer": spent, "per second": 7_000.0, "p50 ms": 1.0, "p99 ms": 2.0})
    grown = []
    for size in WHOLE.sizes:
        each = Measurements("Growth", "Tobogganing", f"{size:,}")
        each.add(**{"cpu gateway": 3.0, "entities": size, "scrape CPU seconds": size / 1e6})
        each.add(**{f"MB {name}": 50 + size / 1e3 for name in ("gateway", "processor", "exporter")})
        grown.append(each)
    return [ours, peer, *grown]


def test_a_median_and_its_multiples_are_shown() -> None:
    table = report.sections([("Date", "today")], measured())["Gateway"]
    assert "| gateway 52.0, Kafka 10.0 | 62.0 | 1.00 | 14,000 |" in table
    assert "| Peer 160.0 | 160.0 | 2.00 | 7,000 |" in table


def test_an_aim_is_met_or_not() -> None:
    (aim,) = reached(measured())
    assert aim.met
    slow = measured()
    slow[0].figures["cpu gateway"] = [61.0]
    assert [each.met for each in reached(slow)] == [False]


def test_the_page_has_a_place_for_each_section(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    sections = report.sections([("Date", "today")], measured())
    for _ in range(2):
        report.publish(page, sections)
        text = page.read_text(encoding="utf-8")
        assert all(text.count(section) == 1 for section in sections.values())
    with pytest.raises(ValueError, match="no place"):
        report.publish(page, {"Unknown": ""})


def test_plots_are_pictures(tmp_path: Path) -> None:
    plots = report.plots(measured())
    assert plots.keys() == {"growth-cpu", "growth-memory"}
    for text in plots.values():
        picture = ElementTree.fromstring(text)
        lines = [each for each in picture if each.tag.endswith("polyline")]
        assert lines
        points = [line.attrib["points"].split() for line in lines]
        assert {len(each) for each in points} == {len(WHOLE.sizes)}


def test_the_edge_needs_no_name_server() -> None:
    file = CHECKOUT / "deploy" / "edge" / "haproxy.cfg"
    text = configuration(file.read_text(encoding="utf-8"), 12_345)
    assert "server-template" not in text
    assert text.count(" 127.0.0.1:12345\n") == 4
    assert "resolvers docker init-addr" not in text
