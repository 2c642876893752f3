"""Names and label values are a single line for every reader."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import TEXT_PATTERN, is_id, is_text, replace_refused, text_fault
from tests.awkward import ALLOWED, LINE_SEPARATORS, REFUSED

EVERY_CHARACTER = [chr(code) for code in range(sys.maxunicode + 1)]


def test_all_line_separators_of_python_are_forbidden() -> None:
    assert {each for each in EVERY_CHARACTER if len(f"a{each}b".splitlines()) > 1} == set(
        LINE_SEPARATORS
    )


@pytest.mark.parametrize("name", ALLOWED)
def test_unusual_names_are_accepted_and_exported_unchanged(name: str) -> None:
    assert text_fault(name) is None
    assert replace_refused(name) == name
    assert len(name.splitlines()) == 1


@pytest.mark.parametrize("character", REFUSED)
def test_forbidden_characters_are_named_in_the_error(character: str) -> None:
    assert text_fault(f"a{character}b") == (
        f"must not contain U+{ord(character):04X}: remove it "
        "(control characters and line separators are not allowed)"
    )
    assert replace_refused(f"a{character}b") == "a\ufffdb"
    assert re.search(TEXT_PATTERN, f"a{character}b") is None
    assert not is_id(f"a{character}b")
    assert not is_id(f"a{character}")


def test_a_lone_surrogate_is_rejected() -> None:
    assert not is_text("\ud800")


@pytest.mark.parametrize("length", [0, 256])
def test_the_length_is_limited(length: int) -> None:
    assert text_fault("x" * length) == "must have 1 to 255 characters"


@given(st.text(max_size=300))
def test_an_exported_name_is_one_line(text: str) -> None:
    shown = replace_refused(text)
    assert len(f"a{shown}b".splitlines()) == 1
    assert (shown == text) == (is_text(text) or not 1 <= len(text) <= 255)
