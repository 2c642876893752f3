"""Detection of a topic that differs from what was read."""

from aiokafka import ConsumerRecord

from service.kafka.topic_history import Marker, TopicHistory, find_cut, find_difference, find_unread


def record(offset: int, timestamp: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", 0, offset, timestamp, 1, b"k", b"v", None, 1, 1, ())


def test_the_marker_is_the_first_record_with_the_highest_append_time() -> None:
    history = TopicHistory()
    history.observe(0, [record(3, 10), record(4, 20), record(5, 20), record(6, 15)])
    assert history.markers == {0: Marker(4, 20)}
    history.observe(0, [record(7, 20), record(8, 19)])
    assert history.markers == {0: Marker(4, 20)}
    history.observe(0, [record(9, 21)])
    history.observe(1, [record(0, 1)])
    assert history.markers == {0: Marker(9, 21), 1: Marker(0, 1)}


def test_an_end_before_the_position_is_a_cut() -> None:
    assert find_cut({0: 5, 1: 3}, {0: 5, 1: 4}) is None
    assert find_cut({0: 5, 1: 3}, {0: 5, 1: 2}) == "partition 1 ends at 2, but was read up to 3"


def test_another_record_at_the_markers_offset_is_a_difference() -> None:
    markers = {0: Marker(9, 21)}
    assert find_difference(markers, {0: Marker(9, 21)}) is None
    assert find_difference(markers, {0: Marker(9, 22)}) is not None
    assert find_difference(markers, {0: Marker(2, 22)}) is not None
    assert find_difference(markers, {0: Marker(2, 21)}) is not None


def test_a_marker_removed_by_compaction_is_not_a_difference() -> None:
    markers = {0: Marker(9, 21)}
    assert find_difference(markers, {0: Marker(10, 21)}) is None
    assert find_difference(markers, {0: Marker(11, 30)}) is None
    assert find_difference(markers, {0: None}) is None
    assert find_difference(markers, {}) is None


def test_a_cut_between_batches_of_the_same_millisecond_is_detected() -> None:
    """The marker stays the same: it is the first of the two."""
    history = TopicHistory()
    history.observe(0, [record(8, 21), record(9, 21)])
    assert find_difference(history.markers, {0: Marker(8, 21)}) is None
    assert find_unread({0: 10}, {0: Marker(9, 30)}) is not None
    assert find_unread({0: 10}, {0: Marker(10, 30)}) is None
    assert find_unread({0: 10}, {0: None}) is None
    assert find_unread({}, {0: Marker(0, 30)}) is None, "no record was read"
