"""`python -m tests.hostile.attacker NAME VICTIM`: runs one attack in its own process.

It prints `begun` when its connections are open, runs until its input ends, and prints its results
as JSON. Real attackers use other machines, so it runs at the lowest priority here.
"""

import asyncio
import json
import os
import sys

import uvloop

from service.http.server import RESERVED_FILES, raise_file_limit
from tests.hostile.attacks import ATTACKS, Victim, under


async def main(name: str, victim: Victim) -> None:
    attack = ATTACKS[name]
    raise_file_limit(attack.connections + RESERVED_FILES)
    async with under(attack, victim) as seen:
        print("begun", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"opened": seen.opened, "ended": seen.ended, "statuses": seen.statuses}))


if __name__ == "__main__":
    os.nice(10)
    uvloop.run(main(sys.argv[1], Victim(*json.loads(sys.argv[2]))))
