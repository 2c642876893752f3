"""Frames: encoding round-trips, and invalid frames are rejected with the reason."""

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.entity import entity_key, partition_of
from contract.frame import (
    FRAME_VERSION,
    Frame,
    FrameError,
    Submission,
    decode_frame,
    encode_frame,
    encode_frame_parts,
    encode_submission,
)

texts = st.text(max_size=20)
numbers = st.integers(0, 2**63) | st.floats(0, 2.0**63, allow_nan=False)
submissions = st.builds(
    Submission,
    kind=st.sampled_from(["client", "headend", "another"]),
    id=texts,
    incarnation=st.integers(-1, 2**62),
    labels=st.dictionaries(texts, texts, max_size=3),
    default_labels=st.dictionaries(texts, texts, max_size=3),
    metrics=st.dictionaries(texts, numbers, max_size=5),
    timestamp=st.none() | st.floats(0, 1e11),
    removed=st.booleans(),
)


@given(st.integers(0, 2**62), st.lists(submissions, max_size=4))
def test_encoding_round_trips(answer_by: int, sent: list[Submission]) -> None:
    assert decode_frame(encode_frame(answer_by, sent)) == Frame(FRAME_VERSION, answer_by, sent)


@given(st.lists(submissions, max_size=4))
def test_encoding_in_parts_gives_the_same_bytes(sent: list[Submission]) -> None:
    pieces = [encode_submission(submission) for submission in sent]
    assert encode_frame_parts(7, pieces) == encode_frame(7, sent)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_rejected(value: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert isinstance(decode_frame(value), Frame)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "not a frame"),
        (b"[" * 100_000, "not a frame"),
        (b'{"version":2,"answer_by":1,"submissions":[]}', "version 2"),
        (b'{"version":9,"parts":{}}', "version 9"),
        (b'{"version":1,"answer_by":1,"submissions":[{}]}', "not a frame"),
    ],
)
def test_an_invalid_frame_is_rejected_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode_frame(value)


def test_a_frame_is_late_only_after_its_deadline() -> None:
    frame = Frame(FRAME_VERSION, 1000, [])
    assert not frame.is_late(1000)
    assert frame.is_late(1001)


def test_the_partition_is_the_same_in_every_process() -> None:
    key = entity_key("client", "test-client")
    assert key == b"client:test-client"
    assert partition_of(key, 12) == zlib.crc32(b"client:test-client") % 12


def test_older_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    older = encode_frame(1, [])
    monkeypatch.setattr("contract.frame.FRAME_VERSION", 3)
    assert decode_frame(older).version == 1
    assert decode_frame(b'{"version":2,"answer_by":1,"submissions":[]}').version == 2
    for version in (0, -1, 4):
        with pytest.raises(FrameError, match=f"frame version {version} is not supported"):
            decode_frame(b'{"version":%d,"answer_by":1,"submissions":[]}' % version)
