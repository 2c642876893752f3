"""Metrics of the registry."""

from prometheus_client import CollectorRegistry

from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from exporter.metrics import RegisteredCollector


def test_registered_clients_are_counted_by_type() -> None:
    state = RegistryState()
    shown = CollectorRegistry()
    shown.register(RegisteredCollector(state))

    def count(**labels: str) -> float | None:
        by_type = "tobogganing_manager_clients_by_type"
        return shown.get_sample_value(
            by_type if labels else "tobogganing_manager_clients_total", labels
        )

    for number, type in enumerate(("native", "docker", "docker")):
        client = RegistryRecord(
            RECORD_VERSION, "client", f"c-{number}", 1, "n", {"type": type}, incarnation=number
        )
        state.apply(number, client.key, encode_record(client))
    counted = {type: count(type=type) for type in ("native", "docker", "mobile")}
    assert counted == {"native": 1, "docker": 2, "mobile": 0}
    assert count() == 3
    gone = RegistryRecord(
        RECORD_VERSION, "client", "c-1", 2, "n", incarnation=1, removed=True, expires_at_ms=1
    )
    state.apply(3, gone.key, encode_record(gone))
    assert (count(type="docker"), count()) == (1, 2)
