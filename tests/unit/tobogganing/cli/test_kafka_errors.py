"""Every error of Kafka is one sentence for users, without names of a library's classes."""

import re

import pytest
from aiokafka import errors

from tobogganing.cli.kafka_errors import sentence

KINDS = sorted(
    {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.KafkaError)
    },
    key=lambda each: each.__name__,
)


def test_a_slow_broker() -> None:
    expected = (
        "Kafka at k:9092 did not respond in time, or has no leader for now: repeat the command"
    )
    assert sentence(errors.RequestTimedOutError(), "k:9092") == expected
    assert sentence(errors.NotLeaderForPartitionError(), "k:9092") == expected
    assert "in time" in sentence(TimeoutError(), "k:9092")


def test_no_broker() -> None:
    reason = 'Unable to bootstrap from [("k", 9092, 0)]'
    assert "brokers run" in sentence(errors.KafkaConnectionError(reason), "k:9092")


def test_what_kafka_does_not_allow() -> None:
    assert "credentials" in sentence(errors.SaslAuthenticationFailed(), "k:9092")
    assert "ACL" in sentence(errors.TopicAuthorizationFailedError("submissions"), "k:9092")


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_shown_as_code(kind: type[errors.KafkaError]) -> None:
    text = sentence(kind("a reason"), "k:9092")
    assert text.startswith("Kafka at k:9092 ")
    assert not re.search(r"\w+Error\(|\[Error", text)
