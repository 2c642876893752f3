"""The anomaly: what one record of the anomalies topic holds."""

from enum import Enum

import msgspec

ANOMALY_VERSION = 1


class Reason(Enum):
    """What is odd about a submission; the label `reason` of the count."""

    BACKWARDS = "backwards"
    """A counter fell though the agent did not start again."""
    RATE = "rate"
    """A value that cannot be: a counter that grew too fast, a bandwidth beyond any link."""
    CLOCK = "clock"
    """The agent's clock is off: its timestamps are ahead, or behind by the same time each time."""
    LABELS = "labels"
    """A label goes back and forth: two agents may share one id."""
    CADENCE = "cadence"
    """Submissions come far more or less often than this entity's used to."""


class Anomaly(msgspec.Struct):
    """One odd submission: where it is in the submissions topic, and what is odd about it.

    `offset` is Kafka's own, `appended_ms` in milliseconds since the epoch, in the broker's time.
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
        msgspec.DecodeError: it is no anomaly.
    """
    return _decoder.decode(value)
