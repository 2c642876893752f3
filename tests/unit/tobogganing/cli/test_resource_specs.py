import click
import pytest
from click.testing import CliRunner

from tobogganing.cli.main import cli
from tobogganing.cli.resource_specs import enrolment_body, scope_of


def test_the_scope_of_a_relay() -> None:
    assert scope_of(None, None, ("all",)) == "all"
    assert scope_of(None, None, ("a", "b")) == ["a", "b"]
    assert scope_of(None, None, ("all", "b")) == ["all", "b"], "`all` may be the id of an entity"


@pytest.mark.parametrize(
    "words",
    [
        ["clients", "show", "../x"],
        ["clients", "remove", "a/b"],
        ["clients", "add", "two\nlines", "--type", "native"],
        ["clients", "add", "A", "--type", "phone"],
        ["headends", "add", "H", "--cluster-id", "a b"],
        ["headends", "rotate", "h", "--overlap", "-1"],
        ["clients", "remove", "a", "b/c"],
        ["enrolments", "create", "E", "--type", "native", "--expires-in", "soon"],
        ["enrolments", "create", "E", "--type", "native", "--max-uses", "0"],
    ],
)
def test_invalid_arguments_are_not_sent(words: list[str]) -> None:
    result = CliRunner().invoke(cli, [*words, "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_an_enrolment_is_for_clients_or_for_headends() -> None:
    assert enrolment_body({"type": "native"}) == {"type": "native", "kind": "client"}
    assert enrolment_body({"cluster_id": "c"}) == {"cluster_id": "c", "kind": "headend"}
    for options in ({}, {"type": "native", "cluster_id": "c"}):
        with pytest.raises(click.UsageError):
            enrolment_body(options)
