import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.dead_letter import (
    MAX_REASON,
    DeadLetterError,
    DeadLetterSource,
    decode_source,
    encode_source,
)

numbers = st.integers(0, 2**63 - 1)


@given(
    st.text(), numbers, st.integers(-2, 500), numbers, st.none() | numbers, numbers, st.booleans()
)
def test_headers_round_trip(
    reason: str,
    offset: int,
    index: int,
    appended: int,
    size: int | None,
    shift: int,
    is_compressed: bool,
) -> None:
    source = DeadLetterSource(reason, offset, index, appended, size, shift, is_compressed)
    found = decode_source(encode_source(source))
    assert (found.offset, found.index, found.appended) == (offset, index, appended)
    assert found.truncated_from == size
    assert (found.shift, found.is_compressed) == (shift, is_compressed)
    cut = reason[:MAX_REASON]
    assert found.reason == cut.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("reason", b"r"), ("offset", b"1"), ("index", b"0")],
        [("reason", b"r"), ("offset", b"x"), ("index", b"0"), ("appended", b"5")],
        [("reason", b"r"), ("offset", b"\xff"), ("index", b"0"), ("appended", b"5")],
    ],
)
def test_invalid_dead_letter_headers(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(DeadLetterError):
        decode_source(headers)
