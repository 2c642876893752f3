"""The tables of a run, and their marks in docs/performance.md."""

from pathlib import Path

import pytest

from bench import report
from bench.goals import reached
from bench.open_loop_driver import BASELINE, SUBJECT
from bench.rounds import Measurements
from tobogganing.devstack.run_config import CHECKOUT
from tools.edge import configuration

PAGE = CHECKOUT / "docs" / "performance.md"


def measured() -> list[Measurements]:
    ours = Measurements("Gateway", "Tobogganing gateway", "32 connections, API keys, 4 partitions")
    ours.add(**{"cpu gateway": 50.0, "cpu Kafka": 10.0, "per second": 15_000.0})
    ours.add(**{"cpu gateway": 70.0, "cpu Kafka": 10.0, "per second": 13_000.0})
    ours.add(**{"cpu gateway": 52.0, "cpu Kafka": 12.0, "per second": 14_000.0})
    ours.add(**{"p50 ms": 1.0, "p99 ms": 2.0})
    peer = Measurements("Gateway", "Peer", "32 connections")
    for spent in (120.0, 160.0, 300.0):  # 2, 2 and 4.7 times the gateway's
        peer.add(**{"cpu Peer": spent, "per second": 7_000.0, "p50 ms": 1.0, "p99 ms": 2.0})
    return [ours, peer]


def test_tables_show_medians_and_ratios_by_round() -> None:
    table = report.sections([("Date", "today")], measured())["Gateway"]
    assert "| gateway 52.0, Kafka 10.0 | 62.0 | 1.00 | 14,000 |" in table
    assert "| Peer 160.0 | 160.0 | 2.00 | 7,000 |" in table


def test_a_goal_is_met_or_not() -> None:
    (goal,) = reached(measured())
    assert goal.met
    slow = measured()
    slow[0].figures["cpu gateway"] = [61.0]
    assert [each.met for each in reached(slow)] == [False]


def test_the_page_has_a_mark_for_each_section(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    sections = report.sections([("Date", "today")], measured())
    for _ in range(2):
        report.publish(page, sections)
        text = page.read_text(encoding="utf-8")
        assert all(text.count(section) == 1 for section in sections.values())
    with pytest.raises(ValueError, match="no mark"):
        report.publish(page, {"Unknown": ""})


def test_the_edge_runs_without_dns() -> None:
    file = CHECKOUT / "deploy" / "edge" / "haproxy.cfg"
    ports = {"gateway": [12_345, 12_346], "exporter": [12_347]}
    text = configuration(file.read_text(encoding="utf-8"), ports)
    assert "server-template" not in text
    for name, port in (("gateway1", 12_345), ("gateway2", 12_346)):
        assert text.count(f"    server {name} 127.0.0.1:{port}\n") == 3
    assert text.count("    server exporter1 127.0.0.1:12347\n") == 2
    assert "resolvers docker init-addr" not in text


def test_loads_of_single_posts_are_compared_with_the_baseline() -> None:
    figures = []
    for system, spent in (("Tobogganing", 100.0), (f"Tobogganing {BASELINE}", 400.0)):
        idle = Measurements(SUBJECT, system, "no load")
        idle.add(**{"% of a core gateway": spent / 100, "% of a core Kafka": 3.0})
        loaded = Measurements(SUBJECT, system, "300 a second, kept connections")
        loaded.add(**{"cpu gateway": spent, "cpu Kafka": spent, "answer p50 ms": 57.0})
        loaded.add(**{"answer p99 ms": 109.0})
        figures += [idle, loaded]
    table = report.sections([], figures)[SUBJECT]
    assert (
        "| Tobogganing | no load | gateway 1.0, Kafka 3.0 % of a core | 4.0 % of a core |" in table
    )
    assert "| gateway 100, Kafka 100 | 200 | 0.25 | 57, 109 |" in table
