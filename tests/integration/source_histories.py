"""Helpers for tests of sources that lost records: submit, and read the results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from contract.ledger import LedgerRow
from contract.row import decode_entity_row
from contract.total import is_total_key
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics
from tests.integration.frames import PARTITIONS, client, frame_writer, ids_of
from tests.integration.processes import Service
from tests.integration.workers import Found, a_worker, running

A, B, C = ids_of(0, PARTITIONS, 3)


@contextlib.asynccontextmanager
async def sound_worker(
    settings: KafkaSettings, folder: Path, **extra: str
) -> AsyncIterator[Service]:
    """Run a worker on its topics; fail if it ends itself."""
    await ensure_topics(settings)
    worker = a_worker(settings, "w", folder, **extra)
    async with running(worker):
        yield worker
    assert worker.faults() == []


async def send(settings: KafkaSettings, id: str, *values: int) -> list[int]:
    """Write frames of one submission each; return their offsets."""
    async with frame_writer(settings) as frames:
        return [await frames.frame(0, client(id, bytes_sent=value)) for value in values]


async def until(settings: KafkaSettings, **wanted: int) -> LedgerRow:
    """Wait until partition 0's ledger has these values."""
    found: LedgerRow | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(40):
            while True:
                found = (await Found.of(settings)).ledgers.get(0)
                if found and all(getattr(found, name) == value for name, value in wanted.items()):
                    assert found.balances
                    return found
                await asyncio.sleep(0.1)
    raise AssertionError(f"the ledger never had {wanted}: {found}")


async def shown(settings: KafkaSettings) -> dict[str, Any]:
    """Return the newest value of each client."""
    rows = (await Found.of(settings)).rows
    return {
        key.decode().partition(":")[2]: decode_entity_row(row).metrics["bytes_sent"]
        for key, row in rows.items()
        if not is_total_key(key)
    }
