from collections import Counter

from tobogganing.commands.outcome import Outcome


def test_a_good_import() -> None:
    outcome = Outcome(3, Counter(client=2), before=["cluster:k"], seconds=0.5)
    assert outcome.is_good
    assert outcome.left == 0
    assert outcome.without_key(set()) == [], "clusters have no key"
    assert list(outcome.lines([])) == ["registered 2 of 3 in 0.5 s (4/s)", "registered before: 1"]
    assert outcome.document([]) == {
        "registered": {"clusters": 0, "headends": 0, "clients": 2},
        "registered_before": 1,
        "without_key": [],
        "unsure": [],
        "lost": [],
        "refused": 0,
        "left": 0,
        "seconds": 0.5,
    }


def test_whoever_has_no_key_is_named() -> None:
    outcome = Outcome(3, before=["client:a", "client:b", "headend:h"])
    assert outcome.without_key({"client:b"}) == ["client:a", "headend:h"]
    assert any(
        "no key" in line and "client:a, headend:h" in line
        for line in outcome.lines(["client:a", "headend:h"])
    )


def test_everything_else_is_not_good() -> None:
    assert not Outcome(1).is_good
    assert not Outcome(1, unsure=["client:a"]).is_good
    assert not Outcome(1, lost=["client:a"]).is_good
    refused = Outcome(30)
    for number in range(30):
        refused.refuse(number, '400 {"error": "no"}')
    assert not refused.is_good
    assert refused.left == 0
    assert "refused: 30 in all" in list(refused.lines([]))


def test_what_is_left_can_be_gone_on_with() -> None:
    lines = list(Outcome(10, Counter(client=4)).lines([]))
    assert lines[-1] == "left: 6; the same command again registers them"
