"""A gateway that knows a whole fleet: how much memory, and how long until it is ready.

    python -m bench.registry [--clients 1000000]

starts a broker, registers the clients, starts a gateway, and checks that it takes the keys of the
first, the last and one in between, and no other.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import httpx

from bench.errors import WrongResultError
from bench.fleet import Clients, register
from bench.logs import quiet
from bench.pipeline import pipeline
from bench.processes import resident_bytes


async def check(http: httpx.AsyncClient, clients: Clients) -> None:
    """Raises: WrongResultError: it takes another key than the right one, or not that one."""
    for number in {0, clients.size // 2, clients.size - 1}:
        keys = {clients.credential(number): 200, clients.credential(number + 1): 401}
        for key, expected in keys.items():
            answer = await http.post(
                clients.path(number),
                json={"metrics": {}},
                headers={"authorization": f"Bearer {key}"},
            )
            if answer.status_code != expected:
                raise WrongResultError(f"client {number}: {answer.status_code}, not {expected}")


async def measure(count: int, folder: Path) -> dict[str, float]:
    clients = Clients(count)
    async with pipeline(folder) as ours:
        kafka = await ours.topics()
        await register(kafka, clients.records())
        began = time.monotonic()
        async with ours.service("gateway", kafka) as gateway:
            ready = time.monotonic() - began
            async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
                await check(http, clients)
            return {
                "clients": count,
                "ready_seconds": round(ready, 2),
                "resident_megabytes": round(resident_bytes(gateway.pids["gateway"]) / 2**20, 1),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1_000_000)
    count = parser.parse_args().clients
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(count, Path(folder)))))


if __name__ == "__main__":
    main()
