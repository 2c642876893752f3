"""Sample lines have the values of the row and are readable for prometheus-client."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from contract.kinds import CLIENT, HEADEND, EntityKind
from contract.row import EntityRow, RowError, encode_row
from exporter.state.entity_table import EntityTable
from exporter.state.row_decoder import RowDecoder
from exporter.state.text_format import EntityRenderer, FamilyAssembler
from tests.awkward import REFUSED
from tests.unit.exporter.model import make_row


def render(kind: EntityKind, id: str, row: EntityRow) -> str:
    decoder, renderer = RowDecoder(kind), EntityRenderer(kind)
    decoded = decoder.decode(encode_row(row))
    return renderer.labels(id, decoder.labels(decoded)) + renderer.values(decoded)


def lines(kind: EntityKind, *rendered: str) -> list[str]:
    return [family.decode() for family in FamilyAssembler(kind).assemble(rendered)]


def test_the_lines_of_a_client() -> None:
    row = make_row(
        labels={"name": 'Ann\'s "box"\\', "type": "docker", "headless": "true"},
        metrics={"bytes_sent": 10_000_000, "connection_uptime": 60.25},
    )
    shown = '{client_id="c-1",headless="true",name="Ann\'s \\"box\\"\\\\",type="docker"}'
    assert lines(CLIENT, render(CLIENT, "c-1", row)) == [
        f"\ntobogganing_client_bytes_sent{shown} 10000000",
        "",
        "",
        "",
        f"\ntobogganing_client_connection_uptime_seconds{shown} 60.25",
        f"\ntobogganing_client_last_check_in_timestamp{shown} 1.5",
    ]


@pytest.mark.parametrize("separator", REFUSED)
@pytest.mark.parametrize("rest", ["", "ü", '"'])
def test_a_forbidden_character_is_replaced(separator: str, rest: str) -> None:
    text = "".join(
        lines(CLIENT, render(CLIENT, "c-1", make_row(labels={"name": f"a{separator}b{rest}"})))
    )
    (line,) = text.strip("\n").splitlines()
    (family,) = text_string_to_metric_families(line + "\n")
    assert family.samples[0].labels["name"] == f"a\ufffdb{rest}"


@pytest.mark.parametrize("id", [b"a\xe2\x80\xa8", b"a b", b"\xff", b"a\n", b"-"])
def test_a_key_without_a_valid_id_is_rejected(id: bytes) -> None:
    """After replacement, its series could be the same as those of another entity."""
    with pytest.raises(RowError):
        EntityTable(CLIENT).apply_row(b"client:" + id, id, encode_row(make_row()))


def test_a_missing_label_is_empty() -> None:
    row = make_row(labels={"region": "eu"})
    assert lines(HEADEND, render(HEADEND, "h-1", row))[-1] == (
        "\ntobogganing_headend_last_check_in_timestamp"
        '{datacenter="",headend_id="h-1",name="",region="eu"} 1.5'
    )


def test_the_id_comes_from_the_key() -> None:
    row = make_row(labels={"client_id": "another", "unknown": "x"})
    assert 'client_id="c-1"' in render(CLIENT, "c-1", row)
    assert "another" not in render(CLIENT, "c-1", row)


@pytest.mark.parametrize("name", ["plain", "ü", "漢字", "😀", '"ü"\n'])
def test_every_entity_keeps_its_own_value(name: str) -> None:
    rendered = [
        render(CLIENT, id, make_row(labels={"name": name}, metrics=metrics))
        for id, metrics in (("a", {"bytes_sent": 1}), ("b", {}), ("c", {"bytes_sent": 3}))
    ]
    sent = lines(CLIENT, *rendered)[0].split("\n")
    assert [line[len("tobogganing_client_bytes_sent") :][:15] for line in sent] == [
        "",
        '{client_id="a",',
        '{client_id="c",',
    ]
    assert [line.rpartition(" ")[2] for line in sent] == ["", "1", "3"]


def test_a_number_that_no_sample_can_have_is_rejected() -> None:
    with pytest.raises(RowError):
        render(CLIENT, "c-1", make_row(metrics={"bytes_sent": 10**400}))


@given(
    st.integers(-(2**63), 2**63)
    | st.integers(0, 2**54)
    | st.floats(allow_nan=False, allow_infinity=False)
)
@example(2**53 + 1)
@example(2**63)
@example(1764120000.123)
@example(1e22)
@example(5e-324)
@example(-0.0)
def test_a_value_is_read_as_the_same_number(value: float) -> None:
    written = render(CLIENT, "c-1", make_row(metrics={"bytes_sent": value}))
    families = {
        family.name: "".join(family_lines)
        for family, family_lines in zip(CLIENT.families, lines(CLIENT, written), strict=True)
    }
    (family,) = text_string_to_metric_families(families["tobogganing_client_bytes_sent"] + "\n")
    assert float(family.samples[0].value) == float(value)
