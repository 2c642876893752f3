"""`python -m tests.chaos`: faults under load, with real processes; see docs/guarantees.md.

ROUNDS is the total number of rounds (default: two per fault). FAULTS=name,name selects faults;
name+name is a pair. PAIRS draws this number of pairs instead. SEED repeats a run. STALLS=no does
not judge how long a partition made no progress during a fault, for a machine with other load.
RATE is the number of submissions per second (default: 150).
BROKERS=1 runs another installation, whose only broker loses acknowledged records: one_broker.py.
"""

import logging
import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos import one_broker
from tests.chaos.disks import confined
from tests.chaos.faults import FAULTS, unknown
from tests.chaos.pairs import draw
from tests.chaos.report import faults, summary, table
from tests.chaos.rounds import Rounds


def main() -> int:
    """Run; the exit status is 1 if anything was lost, wrong, too slow, or not tried."""
    if os.environ.get("BROKERS") == "1":
        return one_broker.main()
    names = os.environ.get("FAULTS", "").replace(",", " ").split() or list(FAULTS)
    if strangers := unknown(names):
        print(f"no such fault: {', '.join(strangers)}; there are {', '.join(FAULTS)}")
        return 2
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    if number := int(os.environ.get("PAIRS") or 0):
        names = draw(names, number, random.Random(seed))
    rounds = int(os.environ.get("ROUNDS") or (number or 2 * len(names)))
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"{folder} SEED={seed} ROUNDS={rounds} FAULTS={','.join(names)}", flush=True)

    def tell(line: str) -> None:
        print(line, flush=True)

    run = Rounds(folder, names, rounds, seed, tell)
    lines = uvloop.run(run.run())
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = [round(each.ru_utime + each.ru_stime) for each in used]
    print(f"CPU: {cpu[0]} s of the harness, {cpu[1]} s of what it started")
    found = faults(lines, run.audit, judge_stalls=os.environ.get("STALLS") != "no")
    print(table(lines), summary(lines, found, seed), sep="\n\n")
    if found:
        print(f"The logs of all processes are in {folder}")
        return 1
    if not os.environ.get("KEEP"):
        # file systems mounted in it disappear with this process
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    confined()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # unavailable brokers are expected
    sys.exit(main())
