"""Capacity: how much may be registered, so that nobody's mistake drowns Prometheus in series.

An entity has a handful of series, and every label of it but its own name and id has few values: so
what is limited is the number of each kind, and how many values the labels of clusters have.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER, CLUSTER_LABELS, ENROLMENT, RELAY, RegistryRecord
from gateway.metrics import GatewayMetrics
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.http.errors import ApiError
from service.metrics.multiprocess import CallbackGauges


class QuotaExceededError(ApiError):
    """403: there is no room for a registration. Sent again as it is, it will be refused again."""

    def __init__(self, error: str) -> None:
        super().__init__(403, error)


class RegistrationQuotas:
    """Refuses registrations beyond the settings' limits, and shows how near they are.

    This gateway never passes a limit by itself. Several that register at the same moment may, by as
    many as are under way at the others: each counts what it has read.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        registry: RegistryWriter,
        catch_up: Callable[[float], Awaitable[None]],
    ) -> None:
        self.limits = {
            CLIENT.name: settings.max_clients,
            HEADEND.name: settings.max_headends,
            CLUSTER: settings.max_clusters,
            RELAY: settings.max_relays,
            ENROLMENT: settings.max_enrolments,
        }
        """Kind -> how many; 0: no limit."""
        self.label_values = settings.max_label_values
        self._registry = registry
        self._catch_up = catch_up
        self._reserved: dict[str, list[RegistryRecord]] = {kind: [] for kind in self.limits}

    @contextlib.asynccontextmanager
    async def reserve(self, record: RegistryRecord, deadline: float) -> AsyncIterator[None]:
        """Keep room for a registration while it is under way; `deadline` is monotonic.

        Nobody is refused for what was removed meanwhile: the registry is read to its end before.

        Raises:
            LimitError: a limit is reached.
            ApiError: 503, the registry cannot be read.
        """
        if not self._registry.is_current or self._exceeded(record) is not None:
            await self._catch_up(deadline)
        if (reason := self._exceeded(record)) is not None:
            raise QuotaExceededError(reason)
        self._reserved[record.kind].append(record)
        try:
            yield
        finally:
            self._reserved[record.kind].remove(record)

    @contextlib.asynccontextmanager
    async def reserve_each(
        self, records: Sequence[RegistryRecord], deadline: float
    ) -> AsyncIterator[list[str | None]]:
        """Keep capacity for those of many registrations that there is some for.

        Yields for each why there is none, or None.

        Raises:
            ApiError: 503, the registry cannot be read.
        """
        await self._catch_up(deadline)
        reserved: list[RegistryRecord] = []
        reasons: list[str | None] = []
        for record in records:
            reason = self._exceeded(record)
            reasons.append(reason)
            if reason is None:
                self._reserved[record.kind].append(record)
                reserved.append(record)
        try:
            yield reasons
        finally:
            ours = set(map(id, reserved))
            for kind in {record.kind for record in reserved}:
                self._reserved[kind] = [
                    record for record in self._reserved[kind] if id(record) not in ours
                ]

    def export_gauges(self, gauges: CallbackGauges, metrics: GatewayMetrics) -> None:
        """Let gauges say what is registered, and how much may be."""
        state = self._registry.state
        for kind, limit in self.limits.items():
            count = metrics.registered.labels(kind)
            gauges.set_function(count, partial(state.count, kind))
            metrics.registered_limit.labels(kind).set(limit)
        for label in CLUSTER_LABELS:
            values = metrics.label_values.labels(label)
            gauges.set_function(values, partial(state.count_label_values, label))
            metrics.label_values_limit.labels(label).set(self.label_values)

    def _exceeded(self, record: RegistryRecord) -> str | None:
        """Say which limit leaves no room; what is registered already is refused as that."""
        if self._registry.get(record.kind, record.id) is not None:
            return None
        limit = self.limits[record.kind]
        if limit and self._count(record.kind, limit) >= limit:
            variable = f"MAX_{record.kind.upper()}S"
            return (
                f"There are {limit} {record.kind}s, as many as {variable} allows: raise it, or "
                "remove some"
            )
        if record.kind != CLUSTER or not self.label_values:
            return None
        for label in CLUSTER_LABELS:
            if self._values_with(record, label) > self.label_values:
                return (
                    f"There are {self.label_values} values of {label}, as many as MAX_LABEL_VALUES "
                    "allows: use one of them, or raise it"
                )
        return None

    def _count(self, kind: str, limit: int) -> int:
        """How many there are and will be; below the limit in any case where it may be less."""
        count, under_way = self._registry.state.count(kind), self._reserved[kind]
        if count + len(under_way) < limit:
            return count + len(under_way)
        return count + sum(map(self._is_new, under_way))

    def _values_with(self, record: RegistryRecord, label: str) -> int:
        """How many values of a label there will be with this cluster; 0 if it brings none."""
        state = self._registry.state
        if state.has_label_value(label, record.attributes[label]):
            return 0
        coming = {each.attributes[label] for each in (*self._reserved[CLUSTER], record)}
        return state.count_label_values(label) + sum(
            not state.has_label_value(label, value) for value in coming
        )

    def _is_new(self, record: RegistryRecord) -> bool:
        return self._registry.get(record.kind, record.id) is None
