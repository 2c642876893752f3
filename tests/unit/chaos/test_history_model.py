"""The history model finds all violations."""

from contract.position import Receipt
from tests.chaos.history_model import Ack, HistoryModel, Log, LogRecord
from tests.chaos.scrape import Scrape

KEY = "client:c-1"
PROCESSED = {"state": "processed", "result": "applied"}


def model() -> HistoryModel:
    """1 to 4 are acknowledged, 2 was shown before the fault, and the log has lost its end."""
    model = HistoryModel(1)
    for number in range(1, 5):
        assert model.send(KEY) == number
        model.acknowledge(KEY, number, f"0-{number}-0-{100 + number}")
    assert model.see(Scrape(numbers={KEY: 2})) == []
    model.begin_fault()
    return model


def log(times: dict[int, int]) -> Log:
    """Return a log of one partition with these append times by offset and one submission each."""
    return {(0, offset): LogRecord(appended, 1) for offset, appended in times.items()}


def ack(number: int) -> Ack:
    return Ack(KEY, number, Receipt(0, number, 0, 100 + number))


def test_acknowledged_submissions_are_kept_or_lost() -> None:
    assert model().sort(log({1: 101, 2: 102, 3: 999})) == (
        [ack(1), ack(2)],
        [ack(3), ack(4)],
    )


def test_kept_submissions_must_be_shown() -> None:
    assert model().compare(Scrape(numbers={KEY: 4}), [ack(4)], remembers=True) == []
    (wrong,) = model().compare(Scrape(numbers={KEY: 3}), [ack(4)], remembers=True)
    assert wrong.startswith("skipped")


def test_shown_values_must_not_regress() -> None:
    (wrong,) = model().compare(Scrape(numbers={KEY: 1}), [], remembers=True)
    assert wrong.startswith("regressed")
    assert model().compare(Scrape(numbers={KEY: 1}), [], remembers=False) == []


def test_a_wrong_receipt_status_is_found() -> None:
    found = model()
    found.sort(log({1: 101}))
    assert found.check_kept(ack(1), 200, PROCESSED) == []
    assert found.check_kept(ack(1), 200, {"state": "lost"})
    assert found.check_gone(ack(2), 200, PROCESSED) == []
    assert found.check_gone(ack(2), 200, {"state": "lost"}), "it was shown"
    assert found.check_gone(ack(3), 200, {"state": "lost"}) == []
    assert found.check_gone(ack(3), 200, PROCESSED), "it was never shown"
    assert found.check_gone(ack(3), 404, {})


def test_the_ledgers_must_count_the_kept_records_and_the_processed_lost_ones() -> None:
    """1 and 2 are kept, 3 was counted and lost, 4 was lost uncounted."""
    held = log({1: 101, 2: 102})
    assert model().sum_up({0: 3}, held, [ack(3)], remembers=True) == []
    for read in (2, 4):
        (wrong,) = model().sum_up({0: read}, held, [ack(3)], remembers=True)
        assert "2 are in the log (2 acknowledged), 1 were counted and lost" in wrong
    assert model().sum_up({0: 9}, held, [], remembers=False) == []


def test_only_attempts_without_a_response_may_be_counted_in_addition() -> None:
    found = model()
    for _ in range(3):  # one is in the log, one was counted and lost, one never arrived
        found.send(KEY)
    held = log({1: 101, 2: 102, 5: 105})
    assert found.sum_up({0: 5}, held, [ack(3)], remembers=True) == []
    found.end_round()
    assert found.sum_up({0: 6}, held, [], remembers=True) == [], "the last was counted"
    (wrong,) = found.sum_up({0: 7}, held, [], remembers=True)
    assert "1 were counted, 0 are in the log" in wrong
