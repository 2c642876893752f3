"""The name of this process for Kafka: the `client_id` in brokers' logs, metrics and quotas."""

import socket

_current = f"tobogganing-{socket.gethostname()}"


def set_process_name(service: str, name: str | int) -> None:
    """Set the `client_id` of the Kafka clients that this process creates from now on.

    `name` tells the processes of a service apart, and is the same after a restart.
    """
    global _current
    _current = f"tobogganing-{service}-{name}"


def process_name() -> str:
    """Return the name of this process, as `tobogganing-gateway-host1-8000`."""
    return _current
