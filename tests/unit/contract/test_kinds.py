"""Entity kinds: the names of the metrics guide, to the letter."""

import pytest

from contract.kinds import KINDS, is_id, is_text

GUIDE = {
    "client": (
        ("client_id", "name", "type", "headless"),
        [
            "tobogganing_client_bytes_sent",
            "tobogganing_client_bytes_received",
            "tobogganing_client_packets_sent",
            "tobogganing_client_packets_received",
            "tobogganing_client_connection_uptime_seconds",
            "tobogganing_client_last_check_in_timestamp",
        ],
    ),
    "headend": (
        ("headend_id", "name", "region", "datacenter"),
        [
            "tobogganing_headend_active_connections",
            "tobogganing_headend_bandwidth_in_bytes",
            "tobogganing_headend_bandwidth_out_bytes",
            "tobogganing_headend_cpu_usage_percent",
            "tobogganing_headend_memory_usage_bytes",
            "tobogganing_headend_last_check_in_timestamp",
        ],
    ),
}


def test_families_and_labels_are_those_of_the_guide() -> None:
    declared = {
        kind.name: (kind.label_names, [family.name for family in kind.families])
        for kind in KINDS.values()
    }
    assert declared == GUIDE


@pytest.mark.parametrize("id", ["a", "0", "test-client", "A.b_c-d", "x" * 128])
def test_valid_ids(id: str) -> None:
    assert is_id(id)


@pytest.mark.parametrize("id", ["", "-a", ".a", "a/b", "a b", "ä", "a\n", "x" * 129, "a%2Fb"])
def test_invalid_ids(id: str) -> None:
    assert not is_id(id)


@pytest.mark.parametrize("text", ["x", "Büro 7", "日本", '"\\', "😀" * 255])
def test_valid_texts(text: str) -> None:
    assert is_text(text)


@pytest.mark.parametrize("text", ["", "a\nb", "\x00", "\x7f", "\x85", "\ud800", "x" * 256])
def test_invalid_texts(text: str) -> None:
    assert not is_text(text)
