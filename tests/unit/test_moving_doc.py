"""docs/moving.md deletes the old topics, and no others."""

import re
from pathlib import Path

from contract.topics import declare_topics

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "moving.md"


def names(prefix: str) -> set[str]:
    return {topic.name for topic in declare_topics(prefix, 1).all()}


def test_the_pattern_matches_all_old_topics_and_no_new_one() -> None:
    """kafka-topics.sh deletes the topics whose whole name its pattern matches."""
    (pattern,) = re.findall(r"--delete --topic '(.+?)'", DOCUMENT.read_text("utf-8"))
    others = ("tobogganing.v2.", "tobogganing.new.", "tobogganing.registry.", "tobogganing-2.")
    candidates = names("tobogganing.").union(*map(names, others), {"tobogganing.unrelated"})
    assert {name for name in candidates if re.fullmatch(pattern, name)} == names("tobogganing.")
