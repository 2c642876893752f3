"""Numbers, times and names as people read them."""

import pytest

from contract.kinds import CLIENT
from contract.row import encode_row
from exporter.checkins.sample import parse_rendered
from exporter.checkins.words import ago, duration, exact, measured, plain, size
from exporter.state.row_decoder import RowDecoder
from exporter.state.text_format import EntityRenderer
from tests.unit.exporter.model import make_row


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(None, "never"), (-100, "in the future"), (-3, "just now"), (0, "just now")],
        *[(59, "59 s ago"), (60, "1 min ago"), (3600, "1 h ago"), (5460, "1 h 31 min ago")],
        *[(90_000, "1 d 1 h ago"), (400 * 86_400, "400 d ago")],
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


def test_sizes_and_units() -> None:
    assert [size(n) for n in (0, 999, 1500, 2**63)] == ["0 B", "999 B", "1.5 kB", "9.2 EB"]
    assert measured(2e6, "tobogganing_headend_bandwidth_in_bytes") == "2.0 MB/s"
    assert measured(7200, "tobogganing_client_connection_uptime_seconds") == duration(7200)
    assert measured(12.34, "tobogganing_headend_cpu_usage_percent") == "12.3 %"
    assert measured(1234, "tobogganing_client_packets_sent") == "1,234"
    assert exact("2026-11-28T12:03:04.567Z") == "2026-11-28 12:03:04 UTC"


def test_characters_that_reorder_text_are_replaced() -> None:
    assert plain("a\u202eb\u2066c\u200fאב") == "a\ufffdb\ufffdc\u200fאב"


@pytest.mark.parametrize("name", ["Ann", 'a "b" \\ c', "Zoë \\", "名前", '",type="x', "} 1"])
def test_rendered_samples_are_read_back(name: str) -> None:
    labels = {"name": name, "type": "native", "headless": "true"}
    metrics = {"bytes_sent": 2**53 + 1, "connection_uptime": 1.5}
    decoder, renderer = RowDecoder(CLIENT), EntityRenderer(CLIENT)
    row = decoder.decode(encode_row(make_row(labels=labels, metrics=metrics)))
    rendered = renderer.labels("c-1", decoder.labels(row)) + renderer.values(row)
    sample = parse_rendered("client", rendered)
    assert sample.labels == {"client_id": "c-1"} | labels
    assert sample.values == metrics | {"last_check_in": row.last_check_in}
