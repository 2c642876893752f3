"""A worker waits nowhere for a fixed time while it starts and stops."""

import asyncio
import time
from unittest.mock import AsyncMock

import faust
import pytest

from processor.faust_compat.table import PromptTableManager
from processor.faust_compat.worker import Worker


def app() -> faust.App:
    return faust.App("test", broker="kafka://localhost:1", datadir="/nonexistent")


async def test_tables_are_started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = PromptTableManager(app())
    update, recover = AsyncMock(), AsyncMock()
    monkeypatch.setattr(manager, "_update_channels", update)
    monkeypatch.setattr(manager.recovery, "start", recover)
    began = time.monotonic()
    await manager.on_start()
    assert time.monotonic() - began < 0.5
    assert (update.await_count, recover.await_count) == (1, 1)


def test_the_loop_of_a_worker_is_closed_at_once() -> None:
    loop = asyncio.new_event_loop()
    worker = Worker(app(), loop=loop)
    began = time.monotonic()
    worker._shutdown_loop()
    assert time.monotonic() - began < 0.5
    assert loop.is_closed()
