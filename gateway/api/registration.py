"""Registration of clients, clusters, headends and relays, authenticated with ADMIN_TOKEN."""

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import CLIENT, HEADEND, character_fault, is_id
from contract.registry import CLUSTER, RECORD_VERSION, RELAY, RegistryRecord, hash_api_key
from gateway.api.certificates import CertificateIssuer, audit_details
from gateway.api.resources import as_removed
from gateway.api.schemas import (
    CLIENT_TYPES,
    ClientRegistered,
    ClientRegistration,
    ClusterRegistered,
    ClusterRegistration,
    HeadendRegistered,
    HeadendRegistration,
    RelayRegistered,
    RelayRegistration,
    new_api_key,
    require_id,
    require_one_of,
    require_text,
)
from gateway.auth.authenticator import Authenticator
from gateway.body.json import BodyError, JsonDecoder
from gateway.body.reader import bad_request, read_body
from gateway.metrics import GatewayMetrics
from gateway.registry.audit_log import ADMIN, AuditedChange, AuditLog
from gateway.registry.quotas import QuotaExceededError, RegistrationQuotas
from gateway.registry.relay_scope import encode_scope
from gateway.registry.writer import TOMBSTONE_DELAY_MS, RegistryWriter, UnconfirmedError
from gateway.settings import GatewaySettings
from service.http.application import TemplateRoute, route
from service.http.errors import JSON, ApiError, unavailable
from service.metrics.requests import address_of

B = TypeVar("B", bound=msgspec.Struct)


class RequestContext(NamedTuple):
    """Deadline of a request (on the monotonic clock) and the client's address."""

    deadline: float
    address: str


class RegistrationEndpoints:
    """Endpoints that register entities; they respond once the new record is current in the
    registry."""

    def __init__(
        self,
        settings: GatewaySettings,
        registry: RegistryWriter,
        authenticator: Authenticator,
        issuer: CertificateIssuer,
        quotas: RegistrationQuotas,
        audit_log: AuditLog,
        metrics: GatewayMetrics,
    ) -> None:
        self._registry = registry
        self._quotas = quotas
        self._issuer = issuer
        self._authenticator = authenticator
        self._audit_log = audit_log
        self._metrics = metrics
        self._answer_within = settings.answer_within_seconds
        self._max_body = settings.max_body_bytes

    def routes(self) -> list[TemplateRoute]:
        return [
            self._route("clients", ClientRegistration, self._register_client),
            self._route("clusters", ClusterRegistration, self._register_cluster),
            self._route("headends", HeadendRegistration, self._register_headend),
            self._route("relays", RelayRegistration, self._register_relay),
        ]

    def _route(
        self,
        collection: str,
        type: type[B],
        register: Callable[[B, RequestContext], Awaitable[msgspec.Struct]],
    ) -> TemplateRoute:
        decoder = JsonDecoder(type)

        async def take(request: Request) -> Response:
            context = RequestContext(
                time.monotonic() + self._answer_within, address_of(request.scope)
            )
            self._authenticator.check_admin(request)
            content = await read_body(request, self._max_body, context.deadline)
            self._authenticator.check_admin(request, again=True)
            try:
                answer = await register(decoder.decode(content), context)
            except BodyError as error:
                raise bad_request(error) from error
            return JSON(msgspec.to_builtins(answer))

        return route(f"/api/v1/{collection}/register", take, "POST")

    async def _register_client(
        self, body: ClientRegistration, context: RequestContext
    ) -> ClientRegistered:
        require_text(body, "name")
        require_id(body, "client_id")
        type = require_one_of("type", body.type, CLIENT_TYPES)
        id = body.client_id or _new_id(CLIENT.name)
        api_key = new_api_key(CLIENT.name, id)
        record = _new_record(CLIENT.name, id, body.name, {"type": type}, api_key)
        issued = await self._register(record, context, body.csr)
        return ClientRegistered(client_id=id, api_key=api_key, name=body.name, type=type, **issued)

    async def _register_cluster(
        self, body: ClusterRegistration, context: RequestContext
    ) -> ClusterRegistered:
        require_text(body, "name", "region", "datacenter")
        require_id(body, "cluster_id")
        id = body.cluster_id or _new_id(CLUSTER)
        attributes = {"region": body.region, "datacenter": body.datacenter}
        if body.headend_url:
            if fault := character_fault(body.headend_url):
                raise BodyError("headend_url", fault)
            attributes["headend_url"] = body.headend_url
        await self._register(_new_record(CLUSTER, id, body.name, attributes), context)
        return ClusterRegistered(
            cluster_id=id, name=body.name, region=body.region, datacenter=body.datacenter
        )

    async def _register_headend(
        self, body: HeadendRegistration, context: RequestContext
    ) -> HeadendRegistered:
        require_text(body, "name")
        require_id(body, "cluster_id", "headend_id")
        cluster = await self._cluster(body.cluster_id, context.deadline)
        id = body.headend_id or _new_id(HEADEND.name)
        api_key = new_api_key(HEADEND.name, id)
        attributes = {
            "cluster_id": cluster.id,
            "region": cluster.attributes["region"],
            "datacenter": cluster.attributes["datacenter"],
        }
        record = _new_record(HEADEND.name, id, body.name, attributes, api_key)
        issued = await self._register(record, context, body.csr, cluster)
        return HeadendRegistered(headend_id=id, api_key=api_key, **issued)

    async def _register_relay(
        self, body: RelayRegistration, context: RequestContext
    ) -> RelayRegistered:
        require_text(body, "name")
        require_id(body, "relay_id")
        for id in body.scope if isinstance(body.scope, list) else ():
            if not is_id(id):
                raise BodyError("scope", "must be all, or a list of ids")
        id = body.relay_id or _new_id(RELAY)
        api_key = new_api_key(RELAY, id)
        attributes = {"scope": encode_scope(body.scope)}
        await self._register(_new_record(RELAY, id, body.name, attributes, api_key), context)
        return RelayRegistered(relay_id=id, api_key=api_key)

    async def _cluster(self, id: str, deadline: float) -> RegistryRecord:
        cluster = self._registry.get(CLUSTER, id)
        if cluster is None:
            await self._authenticator.catch_up(deadline)
            cluster = self._registry.get(CLUSTER, id)
        if cluster is None:
            raise BodyError("cluster_id", "is not a registered cluster")
        return cluster

    async def _register(
        self,
        record: RegistryRecord,
        context: RequestContext,
        csr: str | None = None,
        cluster: RegistryRecord | None = None,
    ) -> dict[str, str]:
        """Register an entity and sign its certificate request; return the certificate's response
        fields.

        If `cluster` turns out to be removed after the registration was read back, the registration
        is rolled back, so that no headend remains in a removed cluster.

        The certificate is signed first and returned last: an invalid request registers nothing, and
        a failed registration returns no certificate.
        """
        try:
            async with self._quotas.reserve(record, context.deadline):
                return await self._register_audited(record, context, csr, cluster)
        except QuotaExceededError:
            self._count(record, "limited")
            raise

    async def _register_audited(
        self,
        record: RegistryRecord,
        context: RequestContext,
        csr: str | None,
        cluster: RegistryRecord | None,
    ) -> dict[str, str]:
        issued = self._issuer.sign(csr, record) if csr is not None else None
        details = audit_details(issued) if issued is not None else {}
        change = AuditedChange(
            ADMIN, "register", f"{record.kind}:{record.id}", context.address, details
        )
        async with self._audit_log.recording(change, context.deadline):
            try:
                added = await self._registry.add(record, context.deadline)
            except UnconfirmedError as error:
                self._count(record, "unconfirmed")
                raise unavailable(
                    "Kafka did not confirm the registration in time: it may still take effect"
                ) from error
            if not added:
                self._count(record, "conflict")
                raise ApiError(409, f"The {record.kind} {record.id} is already registered")
            if cluster is not None and not self._is_registered(cluster):
                await self._roll_back(record, context.deadline)
                self._count(record, "conflict")
                raise ApiError(409, f"The cluster {cluster.id} was removed during the request")
        self._count(record, "success")
        if issued is None:
            return {}
        return msgspec.structs.asdict(self._issuer.to_response(issued, record.kind))

    def _count(self, record: RegistryRecord, result: str) -> None:
        type = record.attributes.get("type", record.kind)
        self._metrics.registrations.labels(type, result).inc()

    def _is_registered(self, record: RegistryRecord) -> bool:
        current = self._registry.get(record.kind, record.id)
        return current is not None and current.incarnation == record.incarnation

    async def _roll_back(self, record: RegistryRecord, deadline: float) -> None:
        """Remove a new registration, unless its API keys have changed since."""
        base = self._registry.get(record.kind, record.id)
        if base is None or base.api_keys != record.api_keys:
            return
        try:
            until = self._registry.time.latest_ms() + TOMBSTONE_DELAY_MS
            await self._registry.change(base, as_removed(base, until), deadline)
        except UnconfirmedError as error:
            raise unavailable(
                f"The cluster was removed during the request, but the {record.kind} may remain: "
                "Kafka did not confirm its removal in time"
            ) from error


def _new_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(8)}"


def _new_record(
    kind: str, id: str, name: str, attributes: dict[str, str], *api_keys: str
) -> RegistryRecord:
    return RegistryRecord(
        version=RECORD_VERSION,
        kind=kind,
        id=id,
        revision=1,
        name=name,
        attributes=attributes,
        api_keys=[hash_api_key(api_key) for api_key in api_keys],
    )
