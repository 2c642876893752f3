"""Registration quotas, which limit the number of series in Prometheus.

An entity has a few series, and each of its labels except name and id has few values. So the limits
apply to the number of entities of each kind, and to the number of values of each cluster label.
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
    """403: the registration exceeds a quota; the same request will be refused again."""

    def __init__(self, error: str) -> None:
        super().__init__(403, error)


class RegistrationQuotas:
    """Refuses registrations beyond the configured limits, and exports their usage.

    One gateway never exceeds a limit by itself. Concurrent registrations at several gateways may
    exceed it by the number of those in progress, because each gateway counts what it has read.
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
        """Kind -> maximum number; 0 means no limit."""
        self.label_values = settings.max_label_values
        self._registry = registry
        self._catch_up = catch_up
        self._reserved: dict[str, list[RegistryRecord]] = {kind: [] for kind in self.limits}

    @contextlib.asynccontextmanager
    async def reserve(self, record: RegistryRecord, deadline: float) -> AsyncIterator[None]:
        """Reserve quota for a registration in progress; `deadline` is on the monotonic clock.

        The registry is read to its end before a refusal, so that entities removed elsewhere do not
        count.

        Raises:
            QuotaExceededError: a limit is reached.
            ApiError: 503 if the registry cannot be read.
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

        Yields for each the reason of a refusal, or None.

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
        """Export the number of registered entities, the limits and the label values as gauges."""
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
        """Return the error if a limit is reached; registered ids are not limited."""
        if self._registry.get(record.kind, record.id) is not None:
            return None
        limit = self.limits[record.kind]
        if limit and self._count(record.kind, limit) >= limit:
            variable = f"MAX_{record.kind.upper()}S"
            return (
                f"The limit of {limit} {record.kind}s is reached: raise {variable}, or remove some"
            )
        if record.kind != CLUSTER or not self.label_values:
            return None
        for label in CLUSTER_LABELS:
            if self._values_with(record, label) > self.label_values:
                return (
                    f"The limit of {self.label_values} values of {label} is reached: use an "
                    "existing value, or raise MAX_LABEL_VALUES"
                )
        return None

    def _count(self, kind: str, limit: int) -> int:
        """Count registered and reserved records; exact only if the result reaches the limit."""
        count, in_progress = self._registry.state.count(kind), self._reserved[kind]
        if count + len(in_progress) < limit:
            return count + len(in_progress)
        return count + sum(map(self._is_new, in_progress))

    def _values_with(self, record: RegistryRecord, label: str) -> int:
        """Count the values of a label with this cluster; 0 if it adds none."""
        state = self._registry.state
        if state.has_label_value(label, record.attributes[label]):
            return 0
        values = {each.attributes[label] for each in (*self._reserved[CLUSTER], record)}
        return state.count_label_values(label) + sum(
            not state.has_label_value(label, value) for value in values
        )

    def _is_new(self, record: RegistryRecord) -> bool:
        return self._registry.get(record.kind, record.id) is None
