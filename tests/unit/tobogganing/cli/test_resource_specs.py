import pytest
from click.testing import CliRunner

from tobogganing.cli.main import main
from tobogganing.cli.resources import scope_of


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
    ],
)
def test_invalid_arguments_are_not_sent(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "Usage:" in result.output
