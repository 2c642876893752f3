"""Runs the project's programs as users do: `python -m <module>`."""

import asyncio
import os
import sys

from tobogganing.devstack.run_config import CHECKOUT


async def run_module(
    module: str, *arguments: str, patience: float, **environ: str
) -> tuple[int, str]:
    """Run a module to its end; return its exit status and all that it printed.

    Raises:
        TimeoutError: it took more than `patience` seconds, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=CHECKOUT,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(patience):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()
