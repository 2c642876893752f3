"""The time without acknowledgement begins with the first record sent after the last one."""

import asyncio
import math

import pytest

from gateway.produce import ack_monitor as module
from gateway.produce.ack_monitor import AckMonitor, probe_when_silent


@pytest.fixture
def monitor() -> AckMonitor:
    """The monitor of a gateway that has received an acknowledgement."""
    monitor = AckMonitor()
    monitor.on_sent(0.0)
    monitor.on_acknowledged(0.0)
    return monitor


def test_without_sent_records_there_is_no_silence(monitor: AckMonitor) -> None:
    assert monitor.seconds_silent(100.0) == 0


def test_silence_is_infinite_before_the_first_acknowledgement() -> None:
    ack_monitor = AckMonitor()
    assert ack_monitor.seconds_silent(1.0) == math.inf
    ack_monitor.on_sent(1.0)
    ack_monitor.on_failed(1.0)
    assert ack_monitor.seconds_silent(2.0) == math.inf
    ack_monitor.on_sent(2.0)
    ack_monitor.on_acknowledged(3.0)
    assert ack_monitor.seconds_silent(9.0) == 0


def test_an_acknowledgement_ends_the_silence(monitor: AckMonitor) -> None:
    monitor.on_sent(1.0)
    assert monitor.seconds_silent(4.0) == 3.0
    monitor.on_acknowledged(4.0)
    assert monitor.seconds_silent(9.0) == 0


def test_with_records_in_flight_silence_starts_at_the_last_acknowledgement(
    monitor: AckMonitor,
) -> None:
    monitor.on_sent(1.0)
    monitor.on_sent(2.0)
    monitor.on_acknowledged(3.0)
    assert monitor.seconds_silent(7.0) == 4.0
    monitor.on_acknowledged(7.0)
    assert monitor.seconds_silent(8.0) == 0


def test_a_failed_record_does_not_end_the_silence(monitor: AckMonitor) -> None:
    monitor.on_sent(1.0)
    monitor.on_failed(1.0)
    monitor.on_sent(20.0)
    assert monitor.seconds_silent(21.0) == 20.0
    monitor.on_acknowledged(21.0)
    assert monitor.seconds_silent(30.0) == 0


def test_a_failed_record_does_not_affect_later_ones(monitor: AckMonitor) -> None:
    monitor.on_sent(1.0)
    monitor.on_sent(2.0)
    monitor.on_acknowledged(3.0)
    monitor.on_failed(1.0)
    assert monitor.seconds_silent(9.0) == 0


async def test_probes_are_sent_while_the_silence_lasts(
    monitor: AckMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(module, "PROBE_AFTER", 0.05)
    asked = asyncio.Semaphore(0)
    task = asyncio.create_task(
        probe_when_silent(lambda: monitor.seconds_silent() >= module.PROBE_AFTER, asked.release)
    )
    async with asyncio.timeout(5):
        monitor.on_sent(asyncio.get_running_loop().time() - 1.0)
        for _ in range(3):
            await asked.acquire()
    task.cancel()


async def test_a_probe_is_sent_at_start_up() -> None:
    asked = asyncio.Event()
    task = asyncio.create_task(
        probe_when_silent(lambda: AckMonitor().seconds_silent() >= module.PROBE_AFTER, asked.set)
    )
    async with asyncio.timeout(module.CHECK_INTERVAL / 2):
        await asked.wait()
    task.cancel()
