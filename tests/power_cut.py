"""Cuts the power of a broker: kills it and removes the end of a log that was not on disk.

Logs are cut at the start of a record batch or, like a torn write, within one. Kafka removes a torn
batch when it recovers the log.
"""

import struct
from collections.abc import Mapping

from tobogganing.devstack.broker import Broker
from tobogganing.devstack.cluster import Cluster

_HEADER = struct.Struct(">qi")
_LENGTH_FROM = 12
_DELTA_AT = 23
"""Position of a batch's last offset delta."""


def cut_tail(broker: Broker, topic: str, partition: int, end: int, *, torn: int = 0) -> int:
    """Cut a partition's log off before offset `end`, while the broker is stopped.

    Returns the resulting end: `end`, or the start of the batch that contains it. `torn` is the
    number of bytes of the next batch that remain, like a torn write.
    """
    assert not broker.is_running, "the broker still writes"
    folder = broker.folder / "data" / f"{topic}-{partition}"
    segments = sorted(folder.glob("*.log"))
    for segment in reversed(segments):
        if int(segment.stem) < end or segment is segments[0]:
            place, ended = _place(segment.read_bytes(), end)
            with segment.open("r+b") as file:
                file.truncate(place + torn)
            break
        for part in folder.glob(f"{segment.stem}.*"):
            part.unlink()
    for pattern in ("*.index", "*.timeindex", "*.txnindex", "*.snapshot"):
        for part in folder.glob(pattern):
            part.unlink()
    return ended if ended is not None else end


def _place(data: bytes, end: int) -> tuple[int, int | None]:
    """Return the byte position and the first offset of the batch that contains offset `end`."""
    place = 0
    while place + _HEADER.size <= len(data):
        base, length = _HEADER.unpack_from(data, place)
        if length == 0:
            break
        (delta,) = struct.unpack_from(">i", data, place + _DELTA_AT)
        if base + delta >= end:
            return place, base
        place += _LENGTH_FROM + length
    return place, None


async def power_cut(
    cluster: Cluster, ends: Mapping[str, int], partition: int = 0, *, torn: int = 0
) -> None:
    """Cut the power of a cluster's only broker; the given partitions then end at these offsets.

    `torn` is the number of bytes of the next batch that remain, like a torn write.
    """
    (broker,) = cluster.brokers
    await broker.kill()
    for topic, end in ends.items():
        ended = cut_tail(broker, topic, partition, end, torn=torn)
        assert ended == end, f"a batch of {topic} begins at {ended}: it is removed as a whole"
    broker.launch()
    await cluster.wait_until_ready()
