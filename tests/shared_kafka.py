"""One real broker for all processes of a test run: the first that needs it starts it."""

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install


@dataclass(frozen=True)
class SharedKafka:
    """The broker of the run, which no test may break. Each test has its own topic prefix."""

    bootstrap_servers: str


@contextlib.contextmanager
def shared_kafka(folder: Path, install: Install) -> Iterator[SharedKafka]:
    """Yield the run's broker, whose files are in `folder`.

    The process that started the broker waits for all other users, and then stops it.
    """
    folder.mkdir(exist_ok=True)
    address = folder / "address"
    with (folder / "users.lock").open("a") as users, contextlib.ExitStack() as stack:
        with _locked(folder / "start.lock"):
            # Waits while the broker is being stopped.
            fcntl.flock(users, fcntl.LOCK_SH)
            if not address.exists():
                stack.enter_context(_running(folder, install, users))
        yield SharedKafka(address.read_text(encoding="ascii"))


@contextlib.contextmanager
def _running(folder: Path, install: Install, users: IO[str]) -> Iterator[None]:
    cluster = Cluster(folder / "cluster", install)
    address = folder / "address"
    with asyncio.Runner() as runner:
        runner.run(cluster.start())
        address.write_text(cluster.bootstrap_servers, encoding="ascii")
        try:
            yield
        finally:
            fcntl.flock(users, fcntl.LOCK_EX)
            address.unlink()
            runner.run(cluster.stop())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
