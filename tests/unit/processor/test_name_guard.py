"""Which member of the group is another worker of our name."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from processor.fencing import NameGuard, client_id, instance_id
from processor.settings import ProcessorSettings
from service.rotating import RotatingTokens

SETTINGS = ProcessorSettings(
    kafka_bootstrap_servers="localhost:1", worker_name="w1", metrics_token=RotatingTokens("token")
)
FORMER, NEW = (f"{instance_id(SETTINGS)}-{'0' * 8}-0000-0000-0000-{n:012}" for n in (1, 2))


class Admin:
    """The group as its coordinator describes it, with one member of our name."""

    def __init__(self, member: str, client: str) -> None:
        self._member = {"member_id": member, "client_id": client, "client_host": "/10.0.0.7"}

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        document = {"groups": [{"error_code": 0, "members": [self._member]}]}
        return [SimpleNamespace(to_object=lambda: document)]


@pytest.mark.parametrize(
    ("member", "client", "host"),
    [
        (FORMER, client_id(SETTINGS), ""),
        (NEW, client_id(SETTINGS), ""),
        (NEW, f"{instance_id(SETTINGS)}-of-another", "10.0.0.7"),
        (NEW, "aiokafka-0.14.0", "10.0.0.7"),
    ],
    ids=["unchanged", "joined again", "another process", "of an older version"],
)
async def test_a_member_id_of_our_own_is_no_other_worker(
    member: str, client: str, host: str
) -> None:
    admin = cast(Any, Admin(member, client))
    assert await NameGuard(SETTINGS)._host_of_another(admin, FORMER) == host
