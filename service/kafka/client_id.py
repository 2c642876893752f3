"""The `client_id` of this process's Kafka clients. Brokers show it in logs, metrics and quotas."""

import socket

_current = f"tobogganing-{socket.gethostname()}"


def name_clients(service: str, name: str | int) -> None:
    """Set the `client_id` of the clients that this process creates from now on.

    `name` tells the processes of a service apart, and is the same after a restart.
    """
    global _current
    _current = f"tobogganing-{service}-{name}"


def client_id() -> str:
    """Return the `client_id` of this process, as `tobogganing-gateway-host1-8000`."""
    return _current
