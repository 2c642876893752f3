"""Topic settings that the delivery guarantees require."""

from contract.topics import declare_topics


def test_all_topics_use_append_times() -> None:
    for topic in declare_topics("x.", 4).all():
        assert topic.settings["message.timestamp.type"] == "LogAppendTime"
        assert topic.name.startswith("x.")


def test_source_and_state_have_the_same_number_of_partitions() -> None:
    topics = declare_topics("", 12)
    assert topics.submissions.partitions == topics.entity_state.partitions == 12
    assert topics.registry.partitions == 1


def test_state_topics_are_compacted_and_logs_are_deleted() -> None:
    topics = declare_topics("", 4)
    policies = [topic.settings["cleanup.policy"] for topic in topics.all()]
    assert policies == [
        "delete",
        "compact",
        "compact",
        "delete",
        "delete",
        "delete",
        "compact,delete",
    ]
    assert topics.submissions.settings["retention.ms"] == str(3 * 86_400_000)
    assert topics.dead_letter.settings["retention.ms"] == str(7 * 86_400_000)
    assert topics.anomalies.settings["retention.ms"] == str(7 * 86_400_000)
    assert topics.evidence.settings["retention.ms"] == str(7 * 86_400_000)
    assert topics.entity_state.settings["min.compaction.lag.ms"] == "60000"


def test_the_retention_of_submissions_is_a_setting() -> None:
    """Dead letters, which are whole, do not follow it."""
    topics = declare_topics("", 4, 100.5)
    assert topics.submissions.settings["retention.ms"] == "361800000"
    assert topics.dead_letter.settings["retention.ms"] == str(7 * 86_400_000)


def test_segments_are_small() -> None:
    """A starting reader reads all uncompacted records; Kafka's default segments would
    take minutes."""
    topics = declare_topics("", 4)
    for topic in (topics.entity_state, topics.registry, topics.evidence):
        assert int(topic.settings["segment.bytes"]) <= 16 * 2**20
