"""A broker with a second listener, on which a user needs a password."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import free_ports

USER = "tobogganing"
PASSWORD = "a password of the tests"
WITH_ACLS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


class SecuredBroker(NamedTuple):
    """Addresses of a broker: one needs no password, the other is for USER."""

    superuser: str
    users: str


@contextlib.asynccontextmanager
async def secured_broker(
    folder: Path, install: Install, properties: Mapping[str, object], protocol: str
) -> AsyncIterator[SecuredBroker]:
    """Run a broker with these properties, and a listener `users` of a SASL protocol."""
    (port,) = free_ports(1)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"

    def with_listener(node: Node) -> dict[str, object]:
        return {
            "listeners": f"BROKER://{node.broker},CONTROLLER://{node.controller},"
            f"USERS://127.0.0.1:{port}",
            "advertised.listeners": f"BROKER://{node.broker},USERS://127.0.0.1:{port}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            f"USERS:{protocol}",
            "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.users.plain.sasl.jaas.config": f"{login} required "
            f'user_{USER}="{PASSWORD}";',
            **properties,
        }

    cluster = Cluster(folder, install, properties=with_listener)
    await cluster.start()
    try:
        yield SecuredBroker(cluster.bootstrap_servers, f"127.0.0.1:{port}")
    finally:
        await cluster.stop()
