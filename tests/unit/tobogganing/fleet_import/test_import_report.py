from collections import Counter

from tobogganing.fleet_import.bulk_register import ImportReport


def test_a_good_import() -> None:
    report = ImportReport(3, Counter(client=2), already_registered=["cluster:k"], seconds=0.5)
    assert report.is_good
    assert report.remaining == 0
    assert report.without_key(set()) == [], "clusters have no key"
    assert list(report.lines([])) == ["registered 2 of 3 in 0.5 s (4/s)", "registered before: 1"]
    assert report.document([]) == {
        "registered": {"clusters": 0, "headends": 0, "clients": 2},
        "registered_before": 1,
        "without_key": [],
        "unsure": [],
        "lost": [],
        "refused": 0,
        "left": 0,
        "seconds": 0.5,
    }


def test_entries_without_a_key_are_named() -> None:
    report = ImportReport(3, already_registered=["client:a", "client:b", "headend:h"])
    assert report.without_key({"client:b"}) == ["client:a", "headend:h"]
    assert any(
        "without a key" in line and "client:a, headend:h" in line
        for line in report.lines(["client:a", "headend:h"])
    )


def test_incomplete_imports_are_not_good() -> None:
    assert not ImportReport(1).is_good
    assert not ImportReport(1, unconfirmed=["client:a"]).is_good
    assert not ImportReport(1, lost=["client:a"]).is_good
    refused = ImportReport(30)
    for number in range(30):
        refused.refuse(number, '400 {"error": "no"}')
    assert not refused.is_good
    assert refused.remaining == 0
    assert "refused: 30 in total" in list(refused.lines([]))


def test_an_interrupted_import_can_be_continued() -> None:
    lines = list(ImportReport(10, Counter(client=4)).lines([]))
    assert lines[-1] == "left: 6; run the same command again to register them"
