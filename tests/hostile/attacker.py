"""`python -m tests.hostile.attacker NAME VICTIM`: one attack, as a process of its own.

It says `begun` once its connections are open, goes on until its input ends, and then says what it
has seen, as JSON. Attackers are elsewhere and have machines of their own, so here it takes only the
time that nobody else wants.
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
