"""Registering one record: quotas, certificate, audit, and the addition itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from contract.audit import REGISTRATIONS
from contract.registry import RECORD_VERSION, RegistryRecord, hash_api_key
from gateway.api.certificates import CertificateIssuer, audit_details
from gateway.api.endpoints import RequestContext
from gateway.api.resources import as_removed
from gateway.metrics import GatewayMetrics
from gateway.registry.audit_log import AuditedChange, AuditLog
from gateway.registry.quotas import QuotaExceededError, RegistrationQuotas
from gateway.registry.writer import TOMBSTONE_DELAY_MS, RegistryWriter, UnconfirmedError
from service.http.errors import ApiError, unavailable

UNCONFIRMED = "Kafka did not confirm the registration in time: it may still take effect"

BulkStatus = Literal["registered", "exists", "refused", "unconfirmed"]


@dataclass
class BulkOutcome:
    """What became of one of many registrations, and why."""

    status: BulkStatus
    error: str = ""


class Registrar:
    """Adds to the registry; returns once the addition is known to be the current one."""

    def __init__(
        self,
        registry: RegistryWriter,
        issuer: CertificateIssuer,
        quotas: RegistrationQuotas,
        audit_log: AuditLog,
        metrics: GatewayMetrics,
    ) -> None:
        self._registry = registry
        self._issuer = issuer
        self._quotas = quotas
        self._audit_log = audit_log
        self._metrics = metrics

    async def register(
        self,
        record: RegistryRecord,
        context: RequestContext,
        csr: str | None = None,
        *,
        needs: Sequence[RegistryRecord] = (),
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, Any]:
        """Register, and sign what the node requests; return the certificate's response fields.

        If one of the records that it `needs` (its cluster, its enrolment) is found to be removed
        once the registration has been read back, the registration is removed too. `admit` runs
        last before the registration, and may refuse it.

        The certificate is made first and given out last: without a valid request nothing is
        registered, and without a registration no node has the certificate.

        Raises:
            ApiError: it is not registered, or (503) not known to be.
            BodyError: the certificate request is not valid.
        """
        try:
            async with self._quotas.reserve(record, context.deadline):
                record = self._registry.with_incarnation(record)
                issued = self._issuer.sign(csr, record) if csr is not None else None
                if admit is not None:
                    await admit()
                details = audit_details(issued) if issued is not None else {}
                change = AuditedChange(
                    context.actor,
                    context.action,
                    f"{record.kind}:{record.id}",
                    context.address,
                    details,
                )
                async with self._audit_log.recording(change, context.deadline, UNCONFIRMED):
                    await self._add(record, context.deadline, needs)
        except QuotaExceededError:
            self.count(record, "limited")
            raise
        self.count(record, "success")
        if issued is None:
            return {}
        return msgspec.structs.asdict(self._issuer.to_response(issued, record.kind))

    async def register_all(
        self,
        records: Sequence[tuple[RegistryRecord, RegistryRecord | None]],
        context: RequestContext,
    ) -> list[BulkOutcome]:
        """Register many, each with the cluster that it needs, if it needs one.

        One that is registered already under the same key counts as registered: it is a repetition.

        Raises:
            ApiError: 503: nothing was registered.
        """
        wanted = [record for record, _ in records]
        outcomes = [BulkOutcome("exists") for _ in records]
        async with self._quotas.reserve_each(wanted, context.deadline) as reasons:
            admitted = []
            for place, (record, reason) in enumerate(zip(wanted, reasons, strict=True)):
                if self._registry.get(record.kind, record.id) is not None:
                    continue
                if reason is None:
                    admitted.append(place)
                else:
                    outcomes[place] = BulkOutcome("refused", reason)
                    self.count(record, "limited")
            if admitted:
                change = AuditedChange(
                    *(context.actor, context.action, REGISTRATIONS, context.address),
                    details=_ids_by_kind([wanted[place] for place in admitted]),
                )
                async with self._audit_log.recording(change, context.deadline):
                    await self._add_all(records, admitted, outcomes, context.deadline)
        for record, outcome in zip(wanted, outcomes, strict=True):
            if outcome.status == "exists" and self._has_key_of(record):
                outcome.status = "registered"
        return outcomes

    async def _add_all(
        self,
        records: Sequence[tuple[RegistryRecord, RegistryRecord | None]],
        admitted: Sequence[int],
        outcomes: list[BulkOutcome],
        deadline: float,
    ) -> None:
        results = await self._registry.add_all([records[place][0] for place in admitted], deadline)
        for place, added in zip(admitted, results, strict=True):
            record, cluster = records[place]
            if added and cluster is not None and not self._is_registered(cluster):
                await self._roll_back(record, cluster, deadline)
                outcomes[place] = BulkOutcome("refused", f"The cluster {cluster.id} was removed")
                self.count(record, "conflict")
            elif added is None:
                outcomes[place] = BulkOutcome("unconfirmed", "Kafka did not confirm it in time")
                self.count(record, "unconfirmed")
            elif added:
                outcomes[place] = BulkOutcome("registered")
                self.count(record, "success")
            else:
                self.count(record, "conflict")

    def _has_key_of(self, record: RegistryRecord) -> bool:
        current = self._registry.get(record.kind, record.id)
        return bool(record.api_keys) and current is not None and current.api_keys == record.api_keys

    def count(self, record: RegistryRecord, result: str) -> None:
        """Count a registration by the type of a client, or another kind, and its result."""
        type = record.attributes.get("type", record.kind)
        self._metrics.registrations.labels(type, result).inc()

    async def _add(
        self, record: RegistryRecord, deadline: float, needs: Sequence[RegistryRecord]
    ) -> None:
        try:
            added = await self._registry.add(record, deadline)
        except UnconfirmedError:
            self.count(record, "unconfirmed")
            raise
        if not added:
            self.count(record, "conflict")
            raise TakenError(record)
        for needed in needs:
            if not self._is_registered(needed):
                await self._roll_back(record, needed, deadline)
                self.count(record, "conflict")
                raise ApiError(409, f"The {needed.kind} {needed.id} was removed during the request")

    def _is_registered(self, record: RegistryRecord) -> bool:
        current = self._registry.get(record.kind, record.id)
        return current is not None and current.incarnation == record.incarnation

    async def _roll_back(
        self, record: RegistryRecord, needed: RegistryRecord, deadline: float
    ) -> None:
        """Remove a new registration, unless it has been changed since."""
        base = self._registry.get(record.kind, record.id)
        if base is None or base.api_keys != record.api_keys:
            return
        try:
            until = self._registry.time.latest_ms() + TOMBSTONE_DELAY_MS
            await self._registry.change(base, as_removed(base, until), deadline)
        except UnconfirmedError as error:
            raise unavailable(
                f"The {needed.kind} was removed during the request, but the {record.kind} "
                "may be registered: Kafka did not confirm its removal in time"
            ) from error


def _ids_by_kind(records: Sequence[RegistryRecord]) -> dict[str, str]:
    """What an audit record says of many: the ids of each kind."""
    ids: dict[str, list[str]] = {}
    for record in records:
        ids.setdefault(record.kind, []).append(record.id)
    return {kind: " ".join(found) for kind, found in ids.items()}


class TakenError(ApiError):
    """409: the id is registered already."""

    def __init__(self, record: RegistryRecord) -> None:
        super().__init__(409, f"The {record.kind} {record.id} is already registered")


def new_record(
    kind: str, id: str, name: str, attributes: dict[str, str], *api_keys: str
) -> RegistryRecord:
    """Make the first record of a registration."""
    return RegistryRecord(
        version=RECORD_VERSION,
        kind=kind,
        id=id,
        revision=1,
        name=name,
        attributes=attributes,
        api_keys=[hash_api_key(api_key) for api_key in api_keys],
    )
