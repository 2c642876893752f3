"""Limits of a frame: how many submissions it has, and how many bytes."""

from collections.abc import Iterator, Sequence

MAX_FRAME_SUBMISSIONS = 500
MAX_FRAME_BYTES = 256 * 1024
FRAME_OVERHEAD = 100
"""Bytes reserved for the parts of a frame other than submissions and commas."""


def chunk_for_frames(payloads: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join submissions, in order, into as few payloads as fit frames; yield each with its count."""
    if len(payloads) <= MAX_FRAME_SUBMISSIONS:
        joined = b",".join(payloads)
        if len(joined) <= MAX_FRAME_BYTES - FRAME_OVERHEAD:
            yield joined, len(payloads)
            return
    group: list[bytes] = []
    size = FRAME_OVERHEAD
    for payload in payloads:
        size += len(payload) + 1
        if group and (size > MAX_FRAME_BYTES or len(group) == MAX_FRAME_SUBMISSIONS):
            yield b",".join(group), len(group)
            group, size = [], FRAME_OVERHEAD + len(payload) + 1
        group.append(payload)
    if group:
        yield b",".join(group), len(group)
