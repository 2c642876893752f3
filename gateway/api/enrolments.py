"""`/api/v1/enrolments`: enrolments are created, listed, shown and revoked, with the ADMIN_TOKEN."""

from contract.enrolment import AGENT_KIND, AGENT_TYPE, new_enrolment
from contract.kinds import CLIENT, HEADEND
from contract.registry import ENROLMENT, hash_api_key
from gateway.api.endpoints import ApiEndpoints, ApiParts, RequestContext
from gateway.api.enrolment_schemas import EnrolmentCreated, EnrolmentCreation
from gateway.api.registrar import Registrar
from gateway.api.registration import find_cluster, new_id
from gateway.api.resources import ResourceEndpoints
from gateway.api.schemas import (
    CLIENT_TYPES,
    new_api_key,
    require_id,
    require_one_of,
    require_text,
)
from gateway.body.json import BodyError
from gateway.operations import Operation, OperationRoute
from gateway.registry.writer import TOMBSTONE_DELAY_MS


class EnrolmentEndpoints(ApiEndpoints):
    """Creates enrolments; `resources` lists, shows and removes them."""

    def __init__(self, parts: ApiParts, registrar: Registrar, resources: ResourceEndpoints) -> None:
        super().__init__(parts)
        self._registrar = registrar
        self._resources = resources

    def routes(self) -> list[OperationRoute]:
        described = Operation(
            summary="Let agents register themselves",
            credentials=("admin",),
            errors=(403, 409),
            bodies=(EnrolmentCreation,),
            response=EnrolmentCreated,
        )
        return self._resources.routes(
            POST=(self._creating(EnrolmentCreation, self._create), described)
        )

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
