"""Which submissions are anomalous, and which only seem to be."""

from typing import Any

import pytest

from contract.anomaly import Reason
from contract.frame import Submission
from contract.position import Position
from contract.row import EntityRow
from processor.core.anomaly_detector import GAPS_TO_LEARN, GAPS_TO_RELEARN, EntityHistory, detect
from processor.core.growth import COUNTERS
from processor.core.row_reducer import reduce_row

START = 1_700_000_000.0
INTERVAL = 60.0


class ReportingEntity:
    """An entity, its row, and its detected anomalies; `wait` is in seconds."""

    def __init__(self, kind: str = "client") -> None:
        self.kind = kind
        self.histories: dict[bytes, EntityHistory] = {}
        self.time = START
        self._row: EntityRow | None = None
        self._offset = 0

    def submit(self, wait: float = INTERVAL, **fields: Any) -> list[Reason]:
        self.time += wait
        self._offset += 1
        fields = {"incarnation": 1} | fields
        submission = Submission(kind=self.kind, id="a", **fields)
        now = round(self.time * 1000)
        reduced, _ = reduce_row(self._row, submission, Position(self._offset, 0), now)
        assert reduced is not self._row, "nothing changes, so nothing is checked"
        previous = self._row
        if previous is not None and previous.incarnation != submission.incarnation:
            previous = None
        excess = None
        if previous is not None and self.kind in COUNTERS:
            _, excess = COUNTERS[self.kind].growth_of(previous, submission, now)
        found = detect(self.histories, b"a", previous, submission, now, excess)
        self._row = reduced
        assert all(detail for _, detail in found)
        return [reason for reason, _ in found]

    def count(self, wait: float = INTERVAL, **metrics: float) -> list[Reason]:
        return self.submit(wait, metrics=metrics)

    def learn(self) -> None:
        """Report at the usual interval until the cadence is learnt."""
        for _ in range(GAPS_TO_LEARN + 2):
            assert self.submit() == []


@pytest.fixture
def client() -> ReportingEntity:
    return ReportingEntity()


def test_a_counter_that_falls_without_a_restart(client: ReportingEntity) -> None:
    client.count(bytes_sent=1000, packets_sent=9, connection_uptime=3600)
    assert client.count(bytes_sent=10, packets_sent=10, connection_uptime=3660) == [
        Reason.BACKWARDS
    ]


def test_a_constant_uptime_does_not_explain_a_falling_counter(client: ReportingEntity) -> None:
    client.count(bytes_sent=1000, connection_uptime=3600)
    assert client.count(bytes_sent=10, connection_uptime=3600) == [Reason.BACKWARDS]


@pytest.mark.parametrize("uptime", [0.5, 59.0])
def test_a_restart_is_no_anomaly(client: ReportingEntity, uptime: float) -> None:
    client.count(bytes_sent=1000, connection_uptime=3600)
    assert client.count(bytes_sent=10, connection_uptime=uptime) == []


def test_a_short_uptime_may_mean_a_restart(client: ReportingEntity) -> None:
    client.count(bytes_sent=1000, connection_uptime=20)
    assert client.count(bytes_sent=10, connection_uptime=40) == []


def test_a_restart_that_is_reported_later_is_no_anomaly(client: ReportingEntity) -> None:
    client.count(bytes_sent=1000, packets_sent=100, connection_uptime=3600)
    assert client.count(bytes_sent=10) == []
    assert client.count(bytes_sent=20, packets_sent=5, connection_uptime=90) == []


def test_a_counter_that_was_omitted_since_the_restart_is_no_anomaly(
    client: ReportingEntity,
) -> None:
    client.count(bytes_sent=1000, packets_sent=100, connection_uptime=3600)
    assert client.count(packets_sent=1, connection_uptime=30) == []
    assert client.count(packets_sent=2, connection_uptime=90) == []
    assert client.count(bytes_sent=10, connection_uptime=150) == []
    assert client.count(bytes_sent=9, connection_uptime=210) == [Reason.BACKWARDS]


def test_a_new_registration_starts_over(client: ReportingEntity) -> None:
    client.count(bytes_sent=1000, connection_uptime=3600)
    metrics = {"bytes_sent": 1, "connection_uptime": 7200}
    assert client.submit(incarnation=2, metrics=metrics) == []


def test_the_first_submission_after_a_worker_restart_is_not_checked(
    client: ReportingEntity,
) -> None:
    client.count(bytes_sent=1000, connection_uptime=3600)
    client.histories.clear()
    assert client.count(bytes_sent=10, connection_uptime=3660) == []
    assert client.count(bytes_sent=9, connection_uptime=3720) == [Reason.BACKWARDS]


def test_growth_above_any_links_speed(client: ReportingEntity) -> None:
    client.count(bytes_sent=0, connection_uptime=3600)
    assert client.count(bytes_sent=10**12) == [Reason.RATE]
    assert client.count(wait=1, bytes_sent=2 * 10**12) == [Reason.RATE]


def test_a_fast_link_is_no_anomaly(client: ReportingEntity) -> None:
    client.count(bytes_sent=0, connection_uptime=3600)
    assert client.count(bytes_sent=60 * 10**10, connection_uptime=3660) == []


def test_an_uptime_that_grows_faster_than_time(client: ReportingEntity) -> None:
    client.count(connection_uptime=3600)
    assert client.count(connection_uptime=7200) == [Reason.RATE]
    assert client.count(connection_uptime=7500) == []


def test_a_bandwidth_above_any_links_speed() -> None:
    headend = ReportingEntity("headend")
    headend.count(bandwidth_in=10**9)
    assert headend.count(bandwidth_in=10**10, cpu_usage=100) == []
    assert headend.count(bandwidth_in=10**11) == [Reason.RATE]


def test_a_clock_ahead(client: ReportingEntity) -> None:
    client.submit()
    assert client.submit(timestamp=client.time + INTERVAL + 30) == []
    assert client.submit(timestamp=client.time + INTERVAL + 120) == [Reason.CLOCK]


def test_a_clock_behind(client: ReportingEntity) -> None:
    found = [client.submit(timestamp=client.time + INTERVAL - 900) for _ in range(8)]
    assert found[:3] == [[], [], []]
    assert found[4:] == [[Reason.CLOCK]] * 4


@pytest.mark.parametrize("step", [1.0, 60.0])
def test_a_backlog_is_neither_a_wrong_clock_nor_a_flood(
    client: ReportingEntity, step: float
) -> None:
    for _ in range(GAPS_TO_LEARN + 2):
        client.submit(step, timestamp=client.time + step)
    first = client.time
    client.time += 4 * 3600
    for number in range(1, 200):
        assert client.submit(0.05, timestamp=first + number * step) == []


def test_a_label_that_alternates(client: ReportingEntity) -> None:
    sent = ["true", "false", "true", "false", "true"]
    found = [client.submit(labels={"headless": headless}) for headless in sent]
    assert found == [[], [], [], [Reason.LABELS], [Reason.LABELS]]


def test_an_occasional_label_change_is_no_anomaly(client: ReportingEntity) -> None:
    for number in range(10):
        assert client.submit(labels={"name": f"name {number}"}) == []
        for _ in range(5):
            assert client.submit(labels={"name": f"name {number}"}) == []


def test_a_flood_is_an_anomaly_until_it_is_the_new_cadence(client: ReportingEntity) -> None:
    client.learn()
    found = [client.submit(wait=2) for _ in range(60)]
    assert found[:4] == [[]] * 4
    assert found[4:GAPS_TO_RELEARN] == [[Reason.CADENCE]] * (GAPS_TO_RELEARN - 4)
    assert found[GAPS_TO_RELEARN:] == [[]] * (60 - GAPS_TO_RELEARN)


def test_reports_that_become_rare(client: ReportingEntity) -> None:
    client.learn()
    found = [client.submit(wait=1200) for _ in range(4)]
    assert found == [[], [], [Reason.CADENCE], [Reason.CADENCE]]


def test_a_long_silence_and_a_few_retries_are_no_anomaly(client: ReportingEntity) -> None:
    client.learn()
    for wait in (8 * 3600, 60, 1, 1, 1, 60, 50, 3 * 3600, 70):
        assert client.submit(wait=wait) == []


def test_an_entity_without_a_cadence_never_deviates_from_it(client: ReportingEntity) -> None:
    for _ in range(20):
        for wait in (1, 300, 20):
            assert client.submit(wait=wait) == []
