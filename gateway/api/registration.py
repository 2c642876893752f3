"""Registration of clients, clusters, headends and relays, authenticated with ADMIN_TOKEN."""

import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from contract.kinds import CLIENT, HEADEND, character_fault, is_id
from contract.registry import CLUSTER, RELAY, RegistryRecord
from gateway.api.endpoints import ApiEndpoints, ApiParts, RequestContext
from gateway.api.registrar import Registrar, new_record
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
from gateway.auth.actors import ActorAuthenticator
from gateway.body.json import BodyError
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.relay_scope import encode_scope
from gateway.registry.writer import RegistryWriter

B = TypeVar("B", bound=msgspec.Struct)
Registered = ClientRegistered | ClusterRegistered | HeadendRegistered | RelayRegistered


class RegistrationEndpoints(ApiEndpoints):
    """Endpoints that register entities; they respond once the new record is current in the
    registry."""

    def __init__(self, parts: ApiParts, registrar: Registrar) -> None:
        super().__init__(parts)
        self._registrar = registrar

    def routes(self) -> list[OperationRoute]:
        return [
            self._route("clients", ClientRegistration, ClientRegistered, self._register_client),
            self._route("clusters", ClusterRegistration, ClusterRegistered, self._register_cluster),
            self._route("headends", HeadendRegistration, HeadendRegistered, self._register_headend),
            self._route("relays", RelayRegistration, RelayRegistered, self._register_relay),
        ]

    def _route(
        self,
        collection: str,
        body_type: type[B],
        response_type: type[Registered],
        register: Callable[[B, RequestContext], Awaitable[Registered]],
    ) -> OperationRoute:
        described = Operation(
            summary=f"Register a {collection.removesuffix('s')}",
            credentials=("admin",),
            errors=(403, 409, 501) if "csr" in body_type.__struct_fields__ else (403, 409),
            bodies=(body_type,),
            response=response_type,
        )
        return operation_route(
            f"/api/v1/{collection}/register", POST=(self._creating(body_type, register), described)
        )

    async def _register_client(
        self, body: ClientRegistration, context: RequestContext
    ) -> ClientRegistered:
        require_text(body, "name")
        require_id(body, "client_id")
        type = require_one_of("type", body.type, CLIENT_TYPES)
        id = body.client_id or new_id(CLIENT.name)
        api_key = new_api_key(CLIENT.name, id)
        record = new_record(CLIENT.name, id, body.name, {"type": type}, api_key)
        issued = await self._registrar.register(record, context, body.csr)
        return ClientRegistered(client_id=id, api_key=api_key, name=body.name, type=type, **issued)

    async def _register_cluster(
        self, body: ClusterRegistration, context: RequestContext
    ) -> ClusterRegistered:
        require_text(body, "name")
        attributes = cluster_attributes(body)
        require_id(body, "cluster_id")
        id = body.cluster_id or new_id(CLUSTER)
        await self._registrar.register(new_record(CLUSTER, id, body.name, attributes), context)
        return ClusterRegistered(
            cluster_id=id, name=body.name, region=body.region, datacenter=body.datacenter
        )

    async def _register_headend(
        self, body: HeadendRegistration, context: RequestContext
    ) -> HeadendRegistered:
        require_text(body, "name")
        require_id(body, "cluster_id", "headend_id")
        cluster = await find_cluster(
            self._registry, self._authenticator, body.cluster_id, context.deadline
        )
        id = body.headend_id or new_id(HEADEND.name)
        api_key = new_api_key(HEADEND.name, id)
        attributes = headend_attributes(cluster)
        record = new_record(HEADEND.name, id, body.name, attributes, api_key)
        issued = await self._registrar.register(record, context, body.csr, needs=[cluster])
        return HeadendRegistered(headend_id=id, api_key=api_key, **issued)

    async def _register_relay(
        self, body: RelayRegistration, context: RequestContext
    ) -> RelayRegistered:
        require_text(body, "name")
        require_id(body, "relay_id")
        for id in body.scope if isinstance(body.scope, list) else ():
            if not is_id(id):
                raise BodyError("scope", "must be all, or a list of ids")
        id = body.relay_id or new_id(RELAY)
        api_key = new_api_key(RELAY, id)
        attributes = {"scope": encode_scope(body.scope)}
        await self._registrar.register(
            new_record(RELAY, id, body.name, attributes, api_key), context
        )
        return RelayRegistered(relay_id=id, api_key=api_key)


async def find_cluster(
    registry: RegistryWriter, authenticator: ActorAuthenticator, id: str, deadline: float
) -> RegistryRecord:
    """Return a registered cluster.

    Raises:
        BodyError: there is none with this id.
        ApiError: 503: the registry cannot be read.
    """
    cluster = registry.get(CLUSTER, id)
    if cluster is None:
        await authenticator.catch_up(deadline)
        cluster = registry.get(CLUSTER, id)
    if cluster is None:
        raise BodyError("cluster_id", "is not a registered cluster")
    return cluster


def cluster_attributes(body: ClusterRegistration) -> dict[str, str]:
    """Return the attributes of a cluster's record.

    Raises:
        BodyError: a field is not valid.
    """
    require_text(body, "region", "datacenter")
    attributes = {"region": body.region, "datacenter": body.datacenter}
    if body.headend_url:
        if fault := character_fault(body.headend_url):
            raise BodyError("headend_url", fault)
        attributes["headend_url"] = body.headend_url
    return attributes


def headend_attributes(cluster: RegistryRecord) -> dict[str, str]:
    """Return the attributes that a headend's record has from its cluster."""
    return {
        "cluster_id": cluster.id,
        "region": cluster.attributes["region"],
        "datacenter": cluster.attributes["datacenter"],
    }


def new_id(kind: str) -> str:
    """Generate a unique id."""
    return f"{kind}-{secrets.token_hex(8)}"
