"""A line is byte for byte what prometheus-client writes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from contract.kinds import CLIENT, HEADEND
from contract.row import RowError
from exporter.lines import NO_SERIES, LineMaker, format_value
from tests.unit.exporter.model import make_row


def test_a_clients_lines() -> None:
    row = make_row(
        labels={"name": 'Ann\'s "box"\\\n', "type": "docker", "headless": "true"},
        metrics={"bytes_sent": 10_000_000, "connection_uptime": 60.25},
    )
    shown = '{client_id="c-1",headless="true",name="Ann\'s \\"box\\"\\\\\\n",type="docker"}'
    assert LineMaker(CLIENT).lines("c-1", row) == [
        f"tobogganing_client_bytes_sent{shown} 1e+07\n".encode(),
        NO_SERIES,
        NO_SERIES,
        NO_SERIES,
        f"tobogganing_client_connection_uptime_seconds{shown} 60.25\n".encode(),
        f"tobogganing_client_last_check_in_timestamp{shown} 1.5\n".encode(),
    ]


def test_a_label_that_the_row_lacks_is_empty() -> None:
    lines = LineMaker(HEADEND).lines("h-1", make_row(labels={"region": "eu"}))
    assert lines[-1] == (
        b"tobogganing_headend_last_check_in_timestamp"
        b'{datacenter="",headend_id="h-1",name="",region="eu"} 1.5\n'
    )


def test_a_number_that_no_sample_can_have_is_no_row() -> None:
    with pytest.raises(RowError):
        LineMaker(CLIENT).lines("c-1", make_row(metrics={"bytes_sent": 10**400}))


round_numbers = st.builds(
    lambda digits, zeros: digits * 10**zeros, st.integers(0, 999), st.integers(0, 18)
)


@given(st.integers(-(2**70), 2**70) | st.integers(0, 2**54) | round_numbers | st.floats())
@example(999_999)
@example(1_000_000)
@example(2**53 - 1)
@example(2**53)
@example(2**63)
def test_values_are_written_as_prometheus_client_does(value: float) -> None:
    assert format_value(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
