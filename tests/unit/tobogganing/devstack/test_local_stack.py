"""The start and the stop of a local run."""

import asyncio
import gc
import io
from pathlib import Path
from typing import Any

from tobogganing.devstack.local_stack import LocalStack
from tobogganing.devstack.log_mux import LogMux
from tobogganing.devstack.run_config import read_run_config
from tobogganing.errors import LocalError


async def test_a_stop_during_the_start_hides_the_error_of_the_start(tmp_path: Path) -> None:
    """A cancelled request to Kafka may raise an error of its own."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    terminal = io.BytesIO()
    mux = LogMux(terminal, tmp_path / "logs")
    stack = LocalStack(read_run_config({"STATE_DIR": str(tmp_path)}), {}, None, mux)
    started = asyncio.Event()

    async def start() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LocalError("Kafka at 127.0.0.1:9: KafkaConnectionError") from None

    running = asyncio.create_task(stack._until_stopped(start()))
    await started.wait()
    stack._on_signal()
    await running
    del running, stack
    gc.collect()
    await asyncio.sleep(0)
    mux.close()
    assert logged == []
    assert terminal.getvalue().splitlines()[-1] == b"run       | stopped"
