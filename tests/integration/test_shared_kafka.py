"""The processes of a test run share a broker, which ends when none of them uses it."""

import multiprocessing
import socket
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tests.shared_kafka import shared_kafka
from tobogganing.devstack.install import Install

PATIENCE = 120.0


def use(folder: Path, install: Install, addresses: Any, leave: Event) -> None:
    with shared_kafka(folder, install) as kafka:
        addresses.put(kafka.bootstrap_servers)
        assert leave.wait(PATIENCE)


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def test_the_process_that_started_the_broker_waits_for_the_others(
    kafka_install: Install, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    addresses = context.Queue()
    leave = [context.Event() for _ in range(2)]
    owner, other = (
        context.Process(target=use, args=(tmp_path / "kafka", kafka_install, addresses, event))
        for event in leave
    )
    owner.start()
    address = addresses.get(timeout=PATIENCE)
    other.start()
    assert addresses.get(timeout=PATIENCE) == address
    leave[0].set()
    owner.join(1)
    assert owner.is_alive()
    assert listens(address)
    leave[1].set()
    for process in (other, owner):
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert not listens(address)
