"""Everything that is known about one entity. Pure."""

from typing import Any

from contract.entity import partition_of
from contract.kinds import KINDS, replace_refused
from contract.position import NO_TIME, Receipt
from contract.registry import CLUSTER
from contract.registry_state import RegistryState
from exporter.checkins.anomalies import RecentAnomalies
from exporter.checkins.directory import Directory
from exporter.checkins.documents import Document, item, moment
from exporter.checkins.listing import View
from exporter.checkins.sample import parse_rendered
from exporter.settings import ExporterSettings
from exporter.state.store import StateStore

SHOWN_ATTRIBUTES = ("type", "cluster_id", "region", "datacenter", "enrolment_id")
"""Attributes of a registration that METRICS_TOKEN may read."""


class Entities:
    """Looks up single entities."""

    def __init__(
        self,
        store: StateStore,
        registered: RegistryState,
        directory: Directory,
        anomalies: RecentAnomalies,
        settings: ExporterSettings,
    ) -> None:
        self._store = store
        self._registered = registered
        self._directory = directory
        self._anomalies = anomalies
        self._thresholds = settings.thresholds
        self._partitions = settings.kafka_partitions

    def is_served(self, kind: str, id: str) -> bool:
        """Return whether this exporter has the entity's partition."""
        return kind == CLUSTER or self.partition(kind, id) in self._store.ledgers

    def partition(self, kind: str, id: str) -> int:
        return partition_of(f"{kind}:{id}".encode(), self._partitions)

    def find(self, kind: str, id: str, as_of: float) -> Document | None:
        """Return an entity's document, None if it is unknown."""
        key = f"{kind}:{id}".encode()
        found = self._directory.kinds[kind].find(key)
        if found is None:
            return None
        view = View(found, self._thresholds[kind], as_of)
        document = item(view, 0, kind)
        table = self._store.table(kind)
        sample = parse_rendered(kind, table.rendered(key))
        rates = table.rates(key)
        families = KINDS[kind].families
        document["labels"] = {name: replace_refused(text) for name, text in sample.labels.items()}
        document["values"] = [
            {
                "field": metric.field,
                "metric": metric.name,
                "help": metric.help,
                "value": sample.values[metric.field],
                "rate": rates.get(metric.field),
            }
            for metric in families
            if metric.field in sample.values
        ]
        cadence = self._directory.kinds[kind].cadence(key)
        document["cadence_seconds"] = None if cadence is None else round(cadence, 1)
        document["activity"] = [
            {"from": moment(each.begin), "checked_in": each.checked_in}
            for each in self._directory.kinds[kind].activity(key)
        ]
        document["anomalies"] = [
            {
                "at": moment(at),
                "reason": anomaly.reason.value,
                "detail": anomaly.detail,
                "receipt": str(receipt),
            }
            for at, anomaly, receipt in self._anomalies.of(key, as_of)
        ]
        document["receipt"] = self._last_receipt(kind, id)
        document["registration"] = self._registration(key)
        document["promql"] = _promql(kind, id)
        document["cli"] = [f"tobogganing {kind}s show {id}"]
        return document

    def _last_receipt(self, kind: str, id: str) -> str | None:
        """Return the receipt of the newest applied submission, without its append time."""
        version, partition = self._store.find(kind, id), self.partition(kind, id)
        ledger = self._store.ledgers.get(partition)
        if version is None or ledger is None:
            return None
        offset = version.position.offset - ledger.shift
        if offset < 0:
            return None
        return str(Receipt(partition, offset, version.position.index, NO_TIME))

    def _registration(self, key: bytes) -> dict[str, Any] | None:
        record = self._registered.get(key)
        if record is None:
            return None
        return {
            "name": replace_refused(record.name),
            **{
                name: replace_refused(record.attributes[name])
                for name in SHOWN_ATTRIBUTES
                if name in record.attributes
            },
            "registered_at": moment((record.registered_at_ms or 0) / 1000),
            "keys": len(record.api_keys),
            "keys_expire_at": [moment(end / 1000) for end in sorted(record.expiring_keys.values())],
        }


def _promql(kind: str, id: str) -> list[str]:
    described = KINDS[kind]
    selector = f'{{{described.id_label}="{id}"}}'
    lines = [f"time() - {described.last_check_in.name}{selector}"]
    for metric in described.metrics:
        counted = metric.semantic == "counter"
        lines.append(f"rate({metric.name}{selector}[5m])" if counted else metric.name + selector)
    return lines
