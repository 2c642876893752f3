"""`/api/v1/enrolments`: enrolments are created, listed, shown and revoked, with the ADMIN_TOKEN."""

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.enrolment import AGENT_KIND, AGENT_TYPE, new_enrolment
from contract.kinds import CLIENT, HEADEND
from contract.registry import ENROLMENT, hash_api_key
from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.enrolment_schemas import EnrolmentCreated, EnrolmentCreation
from gateway.api.registrar import Registrar, RequestContext
from gateway.api.registration import find_cluster, new_id
from gateway.api.resources import ResourceEndpoints
from gateway.api.schemas import (
    CLIENT_TYPES,
    new_api_key,
    require_id,
    require_one_of,
    require_text,
)
from gateway.body.json import BodyError, StructDecoder
from gateway.body.reader import read_body
from gateway.operations import Operation, OperationRoute
from gateway.registry.writer import TOMBSTONE_DELAY_MS
from service.http.errors import JSON
from service.metrics.requests import address_of


class EnrolmentEndpoints(ApiEndpoints):
    """Creates enrolments; `resources` lists, shows and removes them."""

    def __init__(self, parts: ApiParts, registrar: Registrar, resources: ResourceEndpoints) -> None:
        super().__init__(parts)
        self._registrar = registrar
        self._resources = resources
        self._decoder = StructDecoder(EnrolmentCreation)

    def routes(self) -> list[OperationRoute]:
        described = Operation(
            summary="Let agents register themselves",
            credentials=("admin",),
            errors=(403, 409),
            bodies=(EnrolmentCreation,),
            response=EnrolmentCreated,
        )
        return self._resources.routes(POST=(self.create, described))

    async def create(self, request: Request) -> Response:
        context = RequestContext(self._deadline(), address_of(request.scope))
        self._authenticator.check_admin(request)
        content = await read_body(request, self._max_body, context.deadline)
        self._authenticator.check_admin(request, again=True)
        created = await self._create(self._decoder.decode(content), context)
        created.ignored = self._decoder.unknown_fields(content) or UNSET
        return JSON(msgspec.to_builtins(created))

    async def _create(self, body: EnrolmentCreation, context: RequestContext) -> EnrolmentCreated:
        require_text(body, "name")
        require_id(body, "cluster_id", "id_prefix", "enrolment_id")
        attributes = _agent_attributes(body)
        needs = []
        if body.cluster_id is not None:
            cluster = await find_cluster(
                self._registry, self._authenticator, body.cluster_id, context.deadline
            )
            needs.append(cluster)
        # The time of an end must be known, which it is once a broker has acknowledged something.
        await self._authenticator.catch_up(context.deadline)
        id = body.enrolment_id or new_id(ENROLMENT)
        token = new_api_key(ENROLMENT, id)
        ends = dropped = None
        if body.expires_in_seconds is not None:
            ends = self._registry.time.earliest_ms() + int(body.expires_in_seconds * 1000)
            dropped = ends + TOMBSTONE_DELAY_MS
        record = new_enrolment(
            id,
            body.name,
            hash_api_key(token),
            attributes,
            max_uses=body.max_uses,
            ends_ms=ends,
            dropped_ms=dropped,
        )
        await self._registrar.register(record, context, needs=needs)
        return EnrolmentCreated(enrolment_id=id, token=token)


def _agent_attributes(body: EnrolmentCreation) -> dict[str, str]:
    """What agents are registered as.

    Raises:
        BodyError: a field is missing, or is not one of this kind.
    """
    needed, other = ("type", "cluster_id") if body.kind == CLIENT.name else ("cluster_id", "type")
    if getattr(body, needed) is None:
        raise BodyError(needed, f"is missing: it is the same for all {body.kind}s of an enrolment")
    if getattr(body, other) is not None:
        raise BodyError(other, f"a {body.kind} has none")
    attributes: dict[str, str] = {AGENT_KIND: body.kind}
    if body.type is not None:
        attributes[AGENT_TYPE] = require_one_of("type", body.type, CLIENT_TYPES)
    if body.cluster_id is not None:
        assert body.kind == HEADEND.name, "clients have no cluster"
        attributes["cluster_id"] = body.cluster_id
    if body.id_prefix is not None:
        attributes["id_prefix"] = body.id_prefix
    return attributes
