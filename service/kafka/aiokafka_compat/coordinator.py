"""Private parts of aiokafka's group coordinator: its requests, and an error code that it lacks."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, errors


class FencedInstanceIdError(errors.BrokerResponseError):
    """Another member has joined the group under the same static name (KIP-345)."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined under the same group.instance.id."


def register_error_codes() -> None:
    """Register the error code that aiokafka would report as UnknownError.

    `test_aiokafka_compat.py::test_a_fenced_instance_id_has_its_own_error`.
    """
    errors.kafka_errors[FencedInstanceIdError.errno] = FencedInstanceIdError


def coordinator_of(consumer: AIOKafkaConsumer) -> Any:
    """Return the group coordinator of a started consumer.

    `test_aiokafka_compat.py::test_a_consumer_has_the_private_parts_that_are_used`.
    """
    return consumer._coordinator


def wrap_heartbeat(
    coordinator: Any, wrap: Callable[[Callable[[], Awaitable[bool]]], Callable[[], Awaitable[bool]]]
) -> None:
    """Wrap a coordinator's heartbeat request. `test_fences.py`."""
    coordinator._do_heartbeat = wrap(coordinator._do_heartbeat)


Send = Callable[[Any], Awaitable[Any]]
"""Sends a request and returns its response."""


def wrap_requests(coordinator: Any, wrap: Callable[[Send], Send]) -> None:
    """Wrap the method with which a coordinator sends requests. `test_fencing.py`,
    `test_name_guard.py`."""
    coordinator._send_req = wrap(coordinator._send_req)
