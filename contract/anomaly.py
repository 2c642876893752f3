"""The value of a record in the anomalies topic."""

from enum import Enum

import msgspec

ANOMALY_VERSION = 1


class Reason(Enum):
    """Why a submission is anomalous; the value of the metric label `reason`."""

    BACKWARDS = "backwards"
    """A counter decreased although the agent did not restart."""
    RATE = "rate"
    """An impossible value: a counter that grew too fast, or a bandwidth above any link's."""
    CLOCK = "clock"
    """The agent's clock is wrong: its timestamps are in the future, or late by a constant time."""
    LABELS = "labels"
    """A label alternates between values: two agents may share one id."""
    CADENCE = "cadence"
    """Submissions arrive much more or much less often than before."""


class Anomaly(msgspec.Struct):
    """An anomalous submission, its position in the submissions topic, and the reason.

    `offset` is Kafka's offset. `appended_ms` is in milliseconds since the epoch, broker time.
    """

    version: int
    kind: str
    id: str
    reason: Reason
    detail: str
    partition: int
    offset: int
    index: int
    appended_ms: int = msgspec.field(name="appended")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Anomaly)


def encode_anomaly(anomaly: Anomaly) -> bytes:
    return _encoder.encode(anomaly)


def decode_anomaly(value: bytes) -> Anomaly:
    """Decode a record's value.

    Raises:
        DECODE_ERRORS: the value is not an anomaly.
    """
    return _decoder.decode(value)
