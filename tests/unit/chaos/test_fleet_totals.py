"""The check of the fleet's totals in the chaos tests."""

from contract.frame import Submission, encode_frame
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from tests.chaos.fleet_totals import FleetTotals, differences, parse_totals, recounted

SERIES = 'tobogganing_fleet_client_bytes_sent_total{headless="false",type="native"}'


def test_a_total_that_falls_is_wrong_and_a_gap_is_not() -> None:
    totals = FleetTotals()
    assert totals.see("one", totals.begin(), f"{SERIES} 7.0\n") == []
    least = totals.begin()
    assert totals.see("two", least, "") == []
    assert totals.see("two", least, f"{SERIES} 6.0\n") == [f"two: {SERIES} fell from 7 to 6"]


def test_a_scrape_that_began_before_another_ended_may_show_less() -> None:
    totals = FleetTotals()
    least = totals.begin()
    totals.see("one", totals.begin(), f"{SERIES} 7.0\n")
    assert totals.see("two", least, f"{SERIES} 6.0\n") == []


def test_a_recount_names_series_as_a_scrape_does() -> None:
    batch = WriteBatch(PartitionState(0))
    for offset, value in enumerate((1, 9)):
        labels = {"type": "native", "headless": "false"}
        frame = encode_frame(
            2**53, [Submission("client", "a", 1, labels, {}, {"bytes_sent": value})]
        )
        reduce_frame(batch, Record(0, offset, 10_000 * offset, frame), 1)
    batch.commit()
    expected = recounted([batch.state])
    assert expected[SERIES] == 8
    assert differences("one", parse_totals(f"{SERIES} 8.0\n"), expected) == []
    assert differences("one", {}, expected) == [f"one: {SERIES} is None, and 8.0 by recounting"]
