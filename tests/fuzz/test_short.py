"""The short form of `make test-fuzz`: the seeds, and a few mutations of them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import api
from tests.fuzz.__main__ import parse
from tests.fuzz.connection import answers
from tests.fuzz.seeds import SEEDS, words
from tests.fuzz.targets import TARGETS

EXAMPLES = 150
MAX_CUT = 40
API_SECONDS = 4
WORDS = [*words()]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_break_no_guarantee(name: str) -> None:
    seeds = [*SEEDS[name]()]
    assert seeds
    for seed in seeds:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_break_no_guarantee(name: str) -> None:
    places = st.integers(0, 2_000)
    pieces = st.sampled_from(WORDS) | st.binary(max_size=6)
    edits = st.lists(st.tuples(places, st.integers(0, MAX_CUT), pieces), min_size=1, max_size=4)

    @settings(max_examples=EXAMPLES, derandomize=True, database=None)
    @given(st.sampled_from([*SEEDS[name]()]), edits)
    def change(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
        for place, cut, piece in edits:
            at = place % (len(data) + 1)
            data = data[:at] + piece + data[at + cut :]
        TARGETS[name](data)

    change()


async def test_both_apis_conform_to_their_documents(tmp_path: Path) -> None:
    assert await api.run(API_SECONDS, 1, tmp_path)


def test_responses_are_parsed() -> None:
    written = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        b"HTTP/1.1 404 Not Found\r\nTobogganing-Service: manager\r\ncontent-length: 9\r\n\r\n"
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    )
    assert answers(written) == [(200, b"{}", True), (404, b"", False), (503, b"", True)]


@pytest.mark.parametrize(
    "written",
    [
        b"rubbish",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}more",
    ],
)
def test_an_invalid_response_is_detected(written: bytes) -> None:
    with pytest.raises(AssertionError):
        answers(written)


def test_a_fuzzer_without_statistics_has_failed() -> None:
    log = "#9 NEW cov: 878 ft: 9\nstat::number_of_executed_units: 12\nstat::peak_rss_mb: 79\n"
    good = parse("row", 1, log, 0)
    assert (good.inputs, good.coverage, good.megabytes, good.is_good) == (12, 878, 79, True)
    assert not parse("row", 1, log, 77).is_good
    assert not parse("row", 1, "", 0).is_good
