"""The key and the partition of an entity, the same for every service."""

import zlib


def entity_key(kind: str, id: str) -> bytes:
    """Return the key of an entity's row and of its registry record."""
    return f"{kind}:{id}".encode()


def partition_of(key: bytes, partitions: int) -> int:
    """Return an entity's partition: the CRC-32 of its key modulo the number of partitions."""
    return zlib.crc32(key) % partitions
