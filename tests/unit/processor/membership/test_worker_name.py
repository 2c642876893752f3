"""Names of workers that are copies of each other."""

import subprocess
import sys
from pathlib import Path

from processor.membership.worker_name import acquire_worker_name

CLAIM = (
    "import sys; from pathlib import Path; "
    "from processor.membership.worker_name import acquire_worker_name; "
)
HOLD = "print(acquire_worker_name(Path(sys.argv[1])), flush=True); sys.stdin.read()"


def copy(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CLAIM + HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def name(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_copies_get_different_names_and_a_successor_gets_its_predecessors_name(
    tmp_path: Path,
) -> None:
    workers = [copy(tmp_path) for _ in range(3)]
    successor = None
    try:
        names = [name(worker) for worker in workers]
        assert sorted(names) == ["processor-1", "processor-2", "processor-3"]
        workers[1].kill()
        workers[1].wait()
        successor = copy(tmp_path)
        assert name(successor) == names[1]
    finally:
        for worker in [*workers, *([successor] if successor else [])]:
            worker.kill()
            worker.communicate()


def test_one_process_never_gets_a_name_twice(tmp_path: Path) -> None:
    assert acquire_worker_name(tmp_path / "new") != acquire_worker_name(tmp_path / "new")
