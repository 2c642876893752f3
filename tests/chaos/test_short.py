"""The short form of `make test-chaos`: a few faults, once each."""

import asyncio
import os
import sys

from tobogganing.local.place import CHECKOUT

FAULTS = ("worker-kill", "exporter-term", "leader-kill", "corrupt-frames")
PATIENCE = 200.0


async def test_a_few_faults_lose_nothing() -> None:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos"),
        cwd=CHECKOUT,
        env=os.environ | {"FAULTS": ",".join(FAULTS), "ROUNDS": f"{len(FAULTS)}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await run.communicate()
    finally:
        if run.returncode is None:
            run.kill()
    print(output.decode())
    assert run.returncode == 0
