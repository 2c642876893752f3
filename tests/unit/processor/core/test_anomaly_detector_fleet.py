"""False alarms and detections in a simulated fleet with real-world disturbances."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from contract.anomaly import Reason
from contract.frame import Submission, encode_frame
from contract.kinds import KINDS
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from tests.figures import tell
from tobogganing.simulator.simulated_fleet import (
    Agent,
    SimulatedClient,
    SimulatedHeadend,
    simulate_fleet,
)

START = 1_700_000_000.0
HOURS = 4
OUTAGE = (START + 3600, START + 4200)
"""Ten minutes without accepted submissions: agents with timestamps keep a backlog,
others do not."""
ALLOWED = 1 / 10_000
"""False alarms per submission."""


@dataclass(frozen=True)
class Sent:
    """A submission and the time at which Kafka appends it, in seconds."""

    at: float
    submission: Submission


def reports(agent: Agent, rng: random.Random, seconds: float) -> Iterator[Sent]:
    """Yield an agent's submissions, with jitter, delays, retries, an outage, sleep and
    a backlog."""
    interval = 60.0 if isinstance(agent, SimulatedClient) else 30.0
    stamped = rng.random() < 0.2
    sleeps_at = START + rng.uniform(0, seconds) if rng.random() < 0.1 else float("inf")
    backlog = []
    time = START + rng.uniform(0, interval)
    while time < START + seconds:
        submission = to_submission(agent, agent.report(interval), time if stamped else None)
        if OUTAGE[0] < time < OUTAGE[1]:
            if stamped:
                backlog.append(submission)
        else:
            at = time
            for kept in backlog:
                yield Sent(at, kept)
                at += 0.05
            backlog.clear()
            late = rng.uniform(0, 20) if rng.random() < 0.02 else rng.uniform(0, 0.2)
            yield Sent(at + late, submission)
            if rng.random() < 0.01:
                yield Sent(at + late + 1, submission)
        time += interval * rng.uniform(0.95, 1.05)
        if time > sleeps_at:
            time, sleeps_at = time + 7200, float("inf")


def to_submission(agent: Agent, body: dict[str, object], timestamp: float | None) -> Submission:
    """Convert a report to a submission, as the gateway does."""
    labels = {"name": agent.name}
    if isinstance(agent, SimulatedHeadend):
        labels |= {"region": agent.cluster.region, "datacenter": agent.cluster.datacenter}
    else:
        labels |= {"type": agent.type, "headless": str(agent.headless).lower()}
    metrics = body["metrics"]
    assert isinstance(metrics, dict)
    assert set(metrics) <= {metric.field for metric in KINDS[agent.kind].metrics}
    return Submission(agent.kind, agent.id, 1, labels, {}, metrics, timestamp)


def reduced(sent: list[Sent]) -> WriteBatch:
    batch = WriteBatch(PartitionState(0))
    for offset, each in enumerate(sorted(sent, key=lambda sent: sent.at)):
        frame = encode_frame(2**53, [each.submission])
        reduce_frame(batch, Record(0, offset, round(each.at * 1000), frame), partitions=1)
    return batch


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_false_alarms_of_the_simulated_fleet(seed: int) -> None:
    fleet = simulate_fleet(clients=200, headends=20, seed=seed)
    agents: list[Agent] = [*fleet.clients, *fleet.headends]
    rng = random.Random(seed)
    sent = [each for agent in agents for each in reports(agent, rng, HOURS * 3600)]
    batch = reduced(sent)
    alarms = Counter({reason.value: 0 for reason in Reason})
    for (_, reason), number in batch.anomaly_counts.items():
        alarms[reason.value] += number
    told = f"{len(sent):,} submissions, {alarms.total()} false alarms: {dict(alarms)}"
    tell(f"simulated fleet, seed {seed}: {told}")
    assert (batch.submissions, batch.dead_letters) == (len(sent), [])
    assert alarms.total() <= ALLOWED * len(sent), batch.anomalies


Disturb = Callable[[list[Sent], random.Random], list[Sent]]


def changed(sent: Sent, at: float | None = None, **fields: Any) -> Sent:
    submission = msgspec.structs.replace(sent.submission, **fields)
    return Sent(sent.at if at is None else at, submission)


def backwards(sent: list[Sent], rng: random.Random) -> list[Sent]:
    """Divide the counters by 1000 from the middle on; the uptime continues."""
    divided = [
        changed(
            each,
            metrics={
                name: value if name == "connection_uptime" else value // 1000
                for name, value in each.submission.metrics.items()
            },
        )
        for each in sent[30:]
    ]
    return sent[:30] + divided


def rate(sent: list[Sent], rng: random.Random) -> list[Sent]:
    wild = {"bytes_sent": 2**62, "connection_uptime": 10**6}
    return [*sent[:30], changed(sent[30], metrics=wild), *sent[31:]]


def clock(sent: list[Sent], rng: random.Random) -> list[Sent]:
    return [changed(each, timestamp=each.at - 1800) for each in sent[:30]]


def labels(sent: list[Sent], rng: random.Random) -> list[Sent]:
    def other(number: int, each: Sent) -> Sent:
        flag = "true" if number % 2 else "false"
        return changed(each, labels=each.submission.labels | {"headless": flag})

    return [other(number, each) for number, each in enumerate(sent)]


def cadence(sent: list[Sent], rng: random.Random) -> list[Sent]:
    again = [changed(sent[30], at=sent[30].at + rng.uniform(1, 20)) for _ in range(30)]
    return sent[:31] + sorted(again, key=lambda sent: sent.at) + sent[31:]


@pytest.mark.parametrize("disturb", [backwards, rate, clock, labels, cadence])
def test_every_injected_anomaly_is_detected(disturb: Disturb) -> None:
    rng = random.Random(1)
    reason = Reason(disturb.__name__)
    disturbed = found = 0
    for client in simulate_fleet(clients=60, headends=0, seed=4).clients:
        client.uptime = 40_000.0
        sent = list(reports(client, rng, 3000))
        if len(sent) < 45 or sent[0].submission.timestamp is not None:
            continue  # it sleeps, or its backlogs hide the anomaly
        disturbed += 1
        batch = reduced(disturb(sent, rng))
        found += batch.anomaly_counts.get(("client", reason), 0) > 0
        assert any(each.reason is reason for each in batch.anomalies), client.id
    tell(f"{reason.value}: found in {found} of {disturbed} disturbed clients")
    assert disturbed > 20
