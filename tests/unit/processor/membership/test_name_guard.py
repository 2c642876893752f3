"""Which group member is another worker with this worker's name, and which is this worker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from processor.membership.fencing import NameGuard, instance_id
from processor.settings import ProcessorSettings
from service.config.secrets import ReloadableTokens

SETTINGS = ProcessorSettings(
    kafka_bootstrap_servers="localhost:1", worker_name="w1", metrics_token=ReloadableTokens("t")
)
FORMER, NEW, ANOTHER = (
    f"{instance_id(SETTINGS)}-00000000-0000-0000-0000-{n:012}" for n in range(3)
)


class Setup:
    """A guarded coordinator, and the group's member with our name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.member = FORMER
        self.asked = asyncio.Event()
        self.ended: list[str] = []
        self.responses: dict[type, asyncio.Future[Any]] = {}
        self.coordinator = SimpleNamespace(member_id=FORMER, _send_req=self._send)
        self.guard = NameGuard(SETTINGS)
        monkeypatch.setattr("processor.membership.fencing.admin_client", lambda _: self)
        monkeypatch.setattr(self.guard, "_end", self.ended.append)
        self.guard.watch(self.coordinator)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: Any) -> None:
        pass

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        self.asked.set()
        members = [{"member_id": self.member, "client_host": "/10.0.0.7"}]
        document = {"groups": [{"error_code": 0, "members": members}]}
        return [SimpleNamespace(to_object=lambda: document)]

    async def _send(self, request: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.responses[type(request)] = future
        return await future

    async def send(self, kind: Any) -> asyncio.Task[Any]:
        sending = asyncio.create_task(self.coordinator._send_req(kind.__new__(kind)))
        await asyncio.sleep(0)
        return sending

    def answer(self, kind: Any, **response: Any) -> None:
        self.responses[kind].set_result(SimpleNamespace(**response))


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


async def test_a_replaced_worker_ends(setup: Setup) -> None:
    beating = await setup.send(HeartbeatRequest)
    setup.member = ANOTHER
    setup.answer(HeartbeatRequest, error_code=NameGuard.UNKNOWN)
    await beating
    assert setup.ended == ["10.0.0.7"]


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        (SyncGroupRequest, {"error_code": NameGuard.UNKNOWN}),
        (OffsetCommitRequest, {"topics": [("t", [(0, 0), (1, NameGuard.UNKNOWN)])]}),
        (OffsetCommitRequest, {"topics": [("t", [(0, NameGuard.FENCED)])]}),
    ],
)
async def test_every_request_with_a_member_id_detects_the_replacement(
    setup: Setup, kind: Any, response: dict[str, Any]
) -> None:
    """Two workers that replace each other several times a second send no heartbeat in between."""
    sending = await setup.send(kind)
    setup.member = ANOTHER
    setup.answer(kind, **response)
    await sending
    assert setup.ended == ["10.0.0.7"]


async def test_a_new_member_id_of_this_worker_is_not_another_worker(setup: Setup) -> None:
    beating, joining = await setup.send(HeartbeatRequest), await setup.send(JoinGroupRequest)
    setup.member = NEW
    setup.answer(JoinGroupRequest, error_code=0, member_id=NEW)
    setup.coordinator.member_id = NEW
    await joining
    setup.answer(HeartbeatRequest, error_code=NameGuard.UNKNOWN)
    await beating
    assert setup.ended == []


async def test_a_join_in_progress_may_be_the_new_member(setup: Setup) -> None:
    beating, joining = await setup.send(HeartbeatRequest), await setup.send(JoinGroupRequest)
    setup.member = NEW
    setup.answer(HeartbeatRequest, error_code=NameGuard.UNKNOWN)
    await setup.asked.wait()
    setup.answer(JoinGroupRequest, error_code=0, member_id=NEW)
    await asyncio.gather(beating, joining)
    assert setup.ended == []


async def test_a_fenced_request_with_an_older_member_id_does_not_end_it(setup: Setup) -> None:
    beating = await setup.send(HeartbeatRequest)
    setup.coordinator.member_id = setup.member = NEW
    setup.answer(HeartbeatRequest, error_code=NameGuard.FENCED)
    await beating
    assert setup.ended == []


async def test_a_fenced_request_ends_it(setup: Setup) -> None:
    beating = await setup.send(HeartbeatRequest)
    setup.answer(HeartbeatRequest, error_code=NameGuard.FENCED)
    await beating
    assert setup.ended == ["a host that Kafka did not name"]
