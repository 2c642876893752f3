import socket

import pytest

from tobogganing.devstack.ports import LOOPBACK, RANGE, free_ports, is_free


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_free_ports_are_different_free_and_in_range() -> None:
    ports = free_ports(6)
    assert len(set(ports)) == 6
    assert all(port in RANGE and is_free(port) for port in ports)


def test_no_port_is_chosen_twice_before_somebody_listens_on_it() -> None:
    few = range(RANGE.start, RANGE.start + 40)
    chosen = [free_ports(1, few)[0] for _ in range(15)]
    assert len(set(chosen)) == 15
    for _ in range(15):
        assert free_ports(1, few)[0] in few, "ports that are free again are chosen again"


def test_a_foreign_address_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        is_free(8000, "192.0.2.1")
