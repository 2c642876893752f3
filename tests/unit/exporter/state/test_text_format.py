"""A line says what the row says, and prometheus-client reads it."""

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


def card(kind: EntityKind, id: str, row: EntityRow) -> str:
    return EntityRenderer(kind).render(id, RowDecoder(kind).decode(encode_row(row)))


def lines(kind: EntityKind, *cards: str) -> list[str]:
    return [family.decode() for family in FamilyAssembler(kind).assemble(cards)]


def test_a_clients_lines() -> None:
    row = make_row(
        labels={"name": 'Ann\'s "box"\\', "type": "docker", "headless": "true"},
        metrics={"bytes_sent": 10_000_000, "connection_uptime": 60.25},
    )
    shown = '{client_id="c-1",headless="true",name="Ann\'s \\"box\\"\\\\",type="docker"}'
    assert lines(CLIENT, card(CLIENT, "c-1", row)) == [
        f"\ntobogganing_client_bytes_sent{shown} 10000000",
        "",
        "",
        "",
        f"\ntobogganing_client_connection_uptime_seconds{shown} 60.25",
        f"\ntobogganing_client_last_check_in_timestamp{shown} 1.5",
    ]


@pytest.mark.parametrize("separator", REFUSED)
@pytest.mark.parametrize("rest", ["", "ü", '"'])
def test_a_character_that_breaks_readers_is_replaced(separator: str, rest: str) -> None:
    text = "".join(
        lines(CLIENT, card(CLIENT, "c-1", make_row(labels={"name": f"a{separator}b{rest}"})))
    )
    (line,) = text.strip("\n").splitlines()
    (family,) = text_string_to_metric_families(line + "\n")
    assert family.samples[0].labels["name"] == f"a\ufffdb{rest}"


@pytest.mark.parametrize("id", [b"a\xe2\x80\xa8", b"a b", b"\xff", b"a\n", b"-"])
def test_a_key_without_an_id_is_no_row(id: bytes) -> None:
    """Its series could be the same as another one's, once characters are replaced."""
    with pytest.raises(RowError):
        EntityTable(CLIENT).apply_row(b"client:" + id, id, encode_row(make_row()))


def test_a_label_that_the_row_lacks_is_empty() -> None:
    row = make_row(labels={"region": "eu"})
    assert lines(HEADEND, card(HEADEND, "h-1", row))[-1] == (
        "\ntobogganing_headend_last_check_in_timestamp"
        '{datacenter="",headend_id="h-1",name="",region="eu"} 1.5'
    )


def test_the_id_is_the_keys_whatever_the_row_says() -> None:
    row = make_row(labels={"client_id": "another", "unknown": "x"})
    assert 'client_id="c-1"' in card(CLIENT, "c-1", row)
    assert "another" not in card(CLIENT, "c-1", row)


@pytest.mark.parametrize("name", ["plain", "ü", "漢字", "😀", '"ü"\n'])
def test_every_entity_has_its_own_value(name: str) -> None:
    cards = [
        card(CLIENT, id, make_row(labels={"name": name}, metrics=metrics))
        for id, metrics in (("a", {"bytes_sent": 1}), ("b", {}), ("c", {"bytes_sent": 3}))
    ]
    sent = lines(CLIENT, *cards)[0].split("\n")
    assert [line[len("tobogganing_client_bytes_sent") :][:15] for line in sent] == [
        "",
        '{client_id="a",',
        '{client_id="c",',
    ]
    assert [line.rpartition(" ")[2] for line in sent] == ["", "1", "3"]


def test_a_number_that_no_sample_can_have_is_no_row() -> None:
    with pytest.raises(RowError):
        card(CLIENT, "c-1", make_row(metrics={"bytes_sent": 10**400}))


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
def test_a_value_reads_as_the_number_that_it_is(value: float) -> None:
    written = card(CLIENT, "c-1", make_row(metrics={"bytes_sent": value}))
    families = {
        family.name: "".join(family_lines)
        for family, family_lines in zip(CLIENT.families, lines(CLIENT, written), strict=True)
    }
    (family,) = text_string_to_metric_families(families["tobogganing_client_bytes_sent"] + "\n")
    assert float(family.samples[0].value) == float(value)
