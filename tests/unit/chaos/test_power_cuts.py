"""Cutting the ends of a broker's logs."""

import random
from pathlib import Path

from contract.topics import declare_topics
from tests.chaos.power_cuts import TAIL, cut_tails


def test_only_the_newest_segments_of_our_topics_lose_bytes(tmp_path: Path) -> None:
    topics = declare_topics("t.", 4)
    sizes = {}
    for name in [f"t.submissions-{p}" for p in range(4)] + ["__cluster_metadata-0"]:
        (tmp_path / name).mkdir()
        for segment in ("00000000000000000000.log", "00000000000000000100.log"):
            file = tmp_path / name / segment
            file.write_bytes(bytes(2 * TAIL))
            sizes[file] = 2 * TAIL
    cut = cut_tails(tmp_path, topics.all(), random.Random(1))
    assert cut
    assert set(cut) <= {f"t.submissions-{p}" for p in range(4)}
    for file, size in sizes.items():
        is_newest = file.name.startswith("00000000000000000100")
        lost = cut.get(file.parent.name, 0) if is_newest else 0
        assert file.stat().st_size == size - lost
