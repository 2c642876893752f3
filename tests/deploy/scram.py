"""A broker with a listener that uses TLS and SCRAM-SHA-512."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import free_ports

LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


@contextlib.asynccontextmanager
async def scram_listener(
    install: Install, folder: Path, store: Path, user: str, password: str
) -> AsyncIterator[str]:
    """The address of the listener; `store` has its key and certificate, in PEM."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"

    def with_listener(node: Node) -> dict[str, object]:
        return {
            "listeners": f"BROKER://{node.broker},CONTROLLER://{node.controller},SECURE://{address}",
            "advertised.listeners": f"BROKER://{node.broker},SECURE://{address}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "SECURE:SASL_SSL",
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.location": str(store),
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{LOGIN} required;",
        }

    cluster = Cluster(folder / "kafka", install, properties=with_listener)
    await cluster.start()
    try:
        await _add_user(install, cluster, user, password)
        yield address
    finally:
        await cluster.stop()


async def _add_user(install: Install, cluster: Cluster, user: str, password: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *install.command(),
        "kafka.admin.ConfigCommand",
        f"--bootstrap-server={cluster.bootstrap_servers}",
        "--alter",
        "--entity-type=users",
        f"--entity-name={user}",
        f"--add-config=SCRAM-SHA-512=[password={password}]",
        cwd=cluster.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
