import pytest

from service.plural import counted


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 entities"), (1, "1 entity"), (2000, "2,000 entities")]
)
def test_a_noun_agrees_with_its_number(count: int, shown: str) -> None:
    assert counted(count, "entity", "entities") == shown


def test_most_nouns_take_an_s() -> None:
    assert (counted(1, "client"), counted(2, "client")) == ("1 client", "2 clients")
