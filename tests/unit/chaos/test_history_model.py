"""The history model finds all violations."""

from contract.position import Receipt
from tests.chaos.history_model import Ack, HistoryModel
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


def ack(number: int) -> Ack:
    return Ack(KEY, number, Receipt(0, number, 0, 100 + number))


def test_acknowledged_submissions_are_kept_or_lost() -> None:
    assert model().sort({(0, 1): 101, (0, 2): 102, (0, 3): 999}) == (
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
    found.sort({(0, 1): 101})
    assert found.check_kept(ack(1), 200, PROCESSED) == []
    assert found.check_kept(ack(1), 200, {"state": "lost"})
    assert found.check_gone(ack(2), 200, PROCESSED) == []
    assert found.check_gone(ack(2), 200, {"state": "lost"}), "it was shown"
    assert found.check_gone(ack(3), 200, {"state": "lost"}) == []
    assert found.check_gone(ack(3), 200, PROCESSED), "it was never shown"
    assert found.check_gone(ack(3), 404, {})
