"""`POST /api/v1/enrol`: an agent registers itself, with the token of an enrolment."""

from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.enrolment import (
    AGENT_KIND,
    AGENT_TYPE,
    enrolled_attributes,
    has_ended,
    id_for_nonce,
    may_repeat,
    without_nonce,
)
from contract.kinds import CLIENT, HEADEND
from contract.registry import ENROLMENT, RegistryRecord, hash_api_key
from gateway.api.certificates import CertificateIssuer, audit_details
from gateway.api.endpoints import ApiEndpoints, ApiParts, RequestContext
from gateway.api.enrolment_schemas import Enrolled, Enrolling
from gateway.api.registrar import Registrar, TakenError, new_record
from gateway.api.registration import find_cluster, headend_attributes, new_id
from gateway.api.schemas import new_api_key, require_id, require_text
from gateway.body.json import BodyError, StructDecoder
from gateway.body.reader import read_body
from gateway.metrics import EnrolmentResult
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.audit_log import AuditedChange
from gateway.registry.use_claims import UseClaims
from gateway.registry.writer import UnconfirmedError
from service.http.bearer_auth import bearer_credential
from service.http.errors import JSON, ApiError, unavailable
from service.metrics.requests import address_of


class ExhaustedError(ApiError):
    """403: no use of the enrolment is left."""

    def __init__(self) -> None:
        super().__init__(403, "The enrolment has no use left: get the token of another")


class EnrolEndpoint(ApiEndpoints):
    """Registers agents that come with the token of an enrolment."""

    def __init__(
        self, parts: ApiParts, registrar: Registrar, issuer: CertificateIssuer, claims: UseClaims
    ) -> None:
        super().__init__(parts)
        self._registrar = registrar
        self._issuer = issuer
        self._claims = claims
        self._decoder = StructDecoder(Enrolling)

    def route(self) -> OperationRoute:
        described = Operation(
            summary="Register oneself",
            credentials=("enrolment",),
            errors=(403, 409, 501),
            bodies=(Enrolling,),
            response=Enrolled,
        )
        return operation_route("/api/v1/enrol", POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        deadline = self._deadline()
        enrolment = await self._authenticator.check_enrolment(request, deadline)
        content = await read_body(request, self._max_body, deadline)
        # What another gateway has revoked, registered or repeated counts here.
        await self._authenticator.catch_up(deadline)
        enrolment = await self._authenticator.check_again(
            enrolment, bearer_credential(request), request.scope, deadline
        )
        actor = f"{ENROLMENT}:{enrolment.id}"
        context = RequestContext(deadline, address_of(request.scope), actor, "enrol")
        try:
            result, enrolled = await self._enrol(request, enrolment, content, context)
        except ApiError as error:
            self._metrics.enrolments[_result_of(error)].inc()
            raise
        self._metrics.enrolments[result].inc()
        enrolled.ignored = self._decoder.unknown_fields(content) or UNSET
        return JSON(msgspec.to_builtins(enrolled))

    async def _enrol(
        self, request: Request, enrolment: RegistryRecord, content: bytes, context: RequestContext
    ) -> tuple[EnrolmentResult, Enrolled]:
        body = self._decoder.decode(content)
        kind, id = enrolment.attributes[AGENT_KIND], _id_for(body, enrolment)
        now = self._registry.time.earliest_ms()
        registered = self._registry.get(kind, id)
        if registered is not None and may_repeat(registered, enrolment, body.nonce, now):
            return "repeated", await self._repeat(registered, body, context)
        if has_ended(enrolment, now):
            raise self._authenticator.enrolment_failure(request)
        if registered is not None:
            raise TakenError(registered)
        try:
            return "registered", await self._register(request, enrolment, id, body, context)
        except TakenError:
            # The same agent may have sent this twice, and the other request was faster.
            registered = self._registry.get(kind, id)
            if registered is None or not may_repeat(registered, enrolment, body.nonce, now):
                raise
            return "repeated", await self._repeat(registered, body, context)

    async def _register(
        self,
        request: Request,
        enrolment: RegistryRecord,
        id: str,
        body: Enrolling,
        context: RequestContext,
    ) -> Enrolled:
        kind, needs = enrolment.attributes[AGENT_KIND], [enrolment]
        attributes = {}
        if kind == CLIENT.name:
            attributes["type"] = enrolment.attributes[AGENT_TYPE]
        else:
            cluster = await find_cluster(
                self._registry,
                self._authenticator,
                enrolment.attributes["cluster_id"],
                context.deadline,
            )
            attributes |= headend_attributes(cluster)
            needs.append(cluster)
        now = self._registry.time.latest_ms()
        attributes |= enrolled_attributes(enrolment, body.nonce, now)
        api_key = new_api_key(kind, id)
        record = new_record(kind, id, body.name, attributes, api_key)

        async def claim() -> None:
            await self._claim(request, enrolment, context.deadline)

        issued = await self._registrar.register(record, context, body.csr, needs=needs, admit=claim)
        return _to_response(record, api_key, issued)

    async def _claim(self, request: Request, enrolment: RegistryRecord, deadline: float) -> None:
        try:
            granted = await self._claims.claim(enrolment, deadline)
        except UnconfirmedError as error:
            raise unavailable("Kafka did not confirm the enrolment in time: try again") from error
        if not granted:
            current = self._registry.get(ENROLMENT, enrolment.id)
            if current is None or current.incarnation != enrolment.incarnation:
                raise self._authenticator.enrolment_failure(request)
            raise ExhaustedError
        self._metrics.enrolment_uses.inc()

    async def _repeat(
        self, base: RegistryRecord, body: Enrolling, context: RequestContext
    ) -> Enrolled:
        """Give a new key to an agent that is registered already: the first one was lost."""
        api_key = new_api_key(base.kind, base.id)
        record = msgspec.structs.replace(
            base,
            attributes=without_nonce(base),
            api_keys=[hash_api_key(api_key)],
            expiring_keys={},
            token_epoch=base.token_epoch + 1,
        )
        issued = self._issuer.sign(body.csr, record) if body.csr is not None else None
        change = AuditedChange(
            context.actor,
            "repeat-enrolment",
            f"{base.kind}:{base.id}",
            context.address,
            audit_details(issued) if issued is not None else {},
        )
        unconfirmed = "Kafka did not confirm the new key in time: it may still take effect"
        async with self._audit_log.recording(change, context.deadline, unconfirmed):
            if not await self._registry.change(base, record, context.deadline):
                raise ApiError(409, f"The {base.kind} {base.id} was changed by another request")
        fields = {}
        if issued is not None:
            fields = msgspec.structs.asdict(self._issuer.to_response(issued, base.kind))
        return _to_response(base, api_key, fields)


def _id_for(body: Enrolling, enrolment: RegistryRecord) -> str:
    """The id that an agent gets.

    Raises:
        BodyError: the body names one that this enrolment does not allow, or is invalid.
    """
    require_text(body, "name")
    require_id(body, "client_id", "headend_id")
    kind, prefix = enrolment.attributes[AGENT_KIND], enrolment.attributes.get("id_prefix", "")
    own, other = ("client_id", "headend_id") if kind == CLIENT.name else ("headend_id", "client_id")
    if getattr(body, other) is not None:
        raise BodyError(other, f"this enrolment is for {kind}s")
    chosen: str | None = getattr(body, own)
    if chosen is not None:
        if not chosen.startswith(prefix):
            raise BodyError(own, f"must begin with {prefix}")
        return chosen
    if body.nonce is not None:
        return id_for_nonce(enrolment, body.nonce, prefix or f"{kind}-")
    return prefix + new_id(kind).removeprefix(f"{kind}-" if prefix else "")


def _to_response(record: RegistryRecord, api_key: str, issued: dict[str, Any]) -> Enrolled:
    if record.kind == HEADEND.name:
        return Enrolled(api_key=api_key, headend_id=record.id, **issued)
    return Enrolled(
        api_key=api_key,
        client_id=record.id,
        name=record.name,
        type=record.attributes["type"],
        **issued,
    )


def _result_of(error: ApiError) -> EnrolmentResult:
    if isinstance(error, ExhaustedError):
        return "exhausted"
    return "unconfirmed" if error.status >= 500 else "refused"
