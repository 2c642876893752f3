"""Lag: the records that the ledgers do not cover."""

from contract.ledger import LedgerRow, empty_ledger
from contract.row import ROW_VERSION
from exporter.state.source_lag import SourceLagMonitor
from service.config.settings import KafkaSettings


def source(ends: dict[int, int], ledgers: dict[int, LedgerRow] | None = None) -> SourceLagMonitor:
    ledgers = ledgers or {partition: empty_ledger() for partition in ends}
    found = SourceLagMonitor(
        KafkaSettings(kafka_bootstrap_servers="localhost:1"), "submissions", ledgers
    )
    found.update(ends)
    return found


def test_records_after_the_ledger_are_lag() -> None:
    ledgers = {0: LedgerRow(version=ROW_VERSION, offset=6), 1: empty_ledger(), 2: empty_ledger()}
    assert source({0: 10, 1: 3, 2: 0}, ledgers).lag() == {0: 3, 1: 3, 2: 0}


def test_a_ledger_newer_than_the_response_has_no_lag() -> None:
    assert source({0: 10}, {0: LedgerRow(version=ROW_VERSION, offset=12)}).lag() == {0: 0}


def test_the_lag_in_seconds_counts_from_the_newest_counted_record() -> None:
    """A partition without lag has none, however long ago its last record was; one of which nothing
    was counted has no value."""
    ledgers = {
        0: LedgerRow(version=ROW_VERSION, offset=6, newest=40_000),
        1: LedgerRow(version=ROW_VERSION, offset=6, newest=40_000),
        2: empty_ledger(),
        3: empty_ledger(),
    }
    settings = KafkaSettings(kafka_bootstrap_servers="localhost:1")
    monitor = SourceLagMonitor(settings, "submissions", ledgers)
    monitor.update({0: 8, 1: 7, 2: 1, 3: 0})
    assert monitor.lag_seconds(100.0) == {0: 60.0, 1: 0.0, 3: 0.0}
    assert monitor.lag_seconds(10.0)[0] == 0.0, "a clock that is behind"


def test_there_is_no_lag_before_the_first_response() -> None:
    settings = KafkaSettings(kafka_bootstrap_servers="localhost:1")
    monitor = SourceLagMonitor(settings, "s", {0: empty_ledger()})
    assert monitor.lag() == {}
    assert monitor.seconds_since_response() == float("inf")
    assert source({0: 1}).seconds_since_response() < 60


def test_records_covered_after_the_end_are_missing() -> None:
    found = source({0: 10, 1: 10})
    found.update({0: 4, 1: 10}, covered={0: 6, 1: 9})
    assert found.missing() == {0: 2, 1: 0}
