"""`python -m tests.hostile.busy WHERE`: an event loop with one callback that uses CPU time."""

import asyncio
import sys
import time

import uvloop

BUSY = 0.1
"""Seconds of CPU time that the callback uses."""


finished = asyncio.Event()


def busy() -> None:
    end = time.thread_time() + BUSY
    while time.thread_time() < end:
        pass
    finished.set()


class BusyProtocol(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        busy()


async def busy_task() -> None:
    busy()


async def main(where: str) -> None:
    loop = asyncio.get_running_loop()
    if where == "task":
        await asyncio.create_task(busy_task())
    elif where == "call_soon":
        loop.call_soon(busy)
    elif where == "call_later":
        loop.call_later(0.01, busy)
    elif where == "thread":
        await asyncio.to_thread(loop.call_soon_threadsafe, busy)
    else:
        server = await loop.create_server(BusyProtocol, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
    await finished.wait()
    await asyncio.sleep(0)  # the callback has ended and is recorded


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
