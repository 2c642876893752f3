"""Endpoints that list, show and remove registered entities, and rotate their API keys.

Every change reads the registry to its end first, so a credential revoked at another gateway is
refused here too.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.enrolment import without_nonce
from contract.entity import entity_key
from contract.frame import Submission, encode_submission
from contract.kinds import KINDS
from contract.registry import CLUSTER, ENROLMENT, RELAY, RegistryRecord, hash_api_key
from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.enrolment_schemas import enrolment_fields
from gateway.api.listing import ListingQuery, describe_listing, page
from gateway.api.resource_types import Resource
from gateway.api.schemas import KeyRotation, RelayKeyRotation, new_api_key, require_key, rfc3339
from gateway.body.json import BodyError, JsonDecoder
from gateway.body.reader import has_body, read_body
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.produce.batcher import OverloadedError, SubmissionBatcher
from gateway.registry.audit_log import ADMIN, AuditedChange
from gateway.registry.relay_scope import scope_for_response
from gateway.registry.writer import TOMBSTONE_DELAY_MS
from service.http.application import Handler
from service.http.bearer_auth import bearer_credential
from service.http.errors import JSON, ApiError, unavailable
from service.metrics.requests import address_of
from service.plural import counted

MAX_OLD_KEYS = 5
"""Maximum number of old API keys of one entity that are valid at a time."""


class ResourceEndpoints(ApiEndpoints):
    """The endpoints of one collection, except registration."""

    def __init__(self, parts: ApiParts, resource: Resource, batcher: SubmissionBatcher) -> None:
        super().__init__(parts)
        self._resource = resource
        self._batcher = batcher
        self._rotation = JsonDecoder(KeyRotation)

    def routes(self, **more: tuple[Handler, Operation]) -> list[OperationRoute]:
        """Return the routes, with `more` methods of the collection."""
        resource = self._resource
        base = f"/api/v1/{resource.path}"
        one = f"{base}/{{{resource.id_field}:id}}"
        show = Operation(
            summary=f"Show one of the {resource.path}", credentials=("admin",), errors=(404,)
        )
        removes = f"Remove one of the {resource.path}, and its series"
        remove = Operation(
            summary="Revoke an enrolment" if resource.kind == ENROLMENT else removes,
            credentials=("admin",),
            errors=(404, 409),
        )
        routes = [
            operation_route(base, GET=(self.list_all, describe_listing(resource)), **more),
            operation_route(one, GET=(self.show, show), DELETE=(self.remove, remove)),
        ]
        if resource.has_key:
            is_relay = resource.kind == RELAY
            rotate = Operation(
                summary="Replace an API key",
                credentials=("admin", "relay" if is_relay else "api_key"),
                errors=(404, 409),
                bodies=(RelayKeyRotation if is_relay else KeyRotation,),
                body_required=False,
            )
            routes.append(operation_route(f"{one}/rotate-key", POST=(self.rotate_key, rotate)))
        return routes

    async def list_all(self, request: Request) -> Response:
        """List one page, ordered by id: `limit` entries after the id `after`, filtered."""
        deadline = self._deadline()
        self._authenticator.check_admin(request)
        query = ListingQuery.parse(request.query_params, self._resource)
        await self._authenticator.catch_up(deadline)
        records, following = await page(self._registry.state, query)
        return JSON(
            {
                self._resource.path: [self._to_response(record) for record in records],
                "total": self._registry.state.count(self._resource.kind),
                "next": following,
            }
        )

    async def show(self, request: Request) -> Response:
        deadline = self._deadline()
        self._authenticator.check_admin(request)
        await self._authenticator.catch_up(deadline)
        return JSON(self._to_response(self._get_or_404(self._id(request))))

    async def rotate_key(self, request: Request) -> Response:
        """Replace the entity's API key, authenticated with that key or with ADMIN_TOKEN."""
        deadline, kind, id = self._deadline(), self._resource.kind, self._id(request)
        # Catch up first, so that a key that was replaced at another gateway cannot replace its
        # successor.
        await self._authenticator.catch_up(deadline)
        # Tokens are not accepted: they expire within hours, and an API key does not expire.
        actor = await self._authenticator.check_actor(request, kind, id, deadline, "key")
        # No await since the check, so `base` is the record that was checked. After a concurrent
        # change, `_change` raises 409.
        base = self._get_or_404(id)
        body = await self._read_rotation(request, deadline)
        await self._authenticator.check_actor_again(request, base, deadline)
        new_key = body.new_api_key or new_api_key(kind, id)
        digest = hash_api_key(new_key)
        if digest in base.api_keys:  # a repetition: the response to the first was lost
            return JSON({self._resource.id_field: id, "new_api_key": new_key})
        if body.new_api_key is not None and actor != ADMIN:
            _require_current_key(request, base)
        now = self._registry.time.earliest_ms()
        old = _expiring_keys(base, now, int(body.overlap_seconds * 1000))
        old.pop(digest, None)
        if len(old) > MAX_OLD_KEYS:
            raise ApiError(
                409,
                f"{len(old) - 1} old keys are still valid: wait until one expires, or rotate with "
                "overlap_seconds 0",
            )
        record = msgspec.structs.replace(
            base,
            attributes=without_nonce(base),
            api_keys=[digest],
            expiring_keys=old,
            token_epoch=base.token_epoch if old else base.token_epoch + 1,
        )
        details = {"overlap_seconds": f"{body.overlap_seconds:g}"}
        change = AuditedChange(
            actor, "rotate-key", f"{kind}:{id}", address_of(request.scope), details
        )
        async with self._audit_log.recording(change, deadline):
            await self._change(base, record, deadline)
        if record.token_epoch > base.token_epoch:
            self._metrics.tokens_revoked.labels("key").inc()
        return JSON({self._resource.id_field: id, "new_api_key": new_key})

    async def remove(self, request: Request) -> Response:
        """Remove the entity and its series; a repeated request is harmless."""
        deadline, kind, id = self._deadline(), self._resource.kind, self._id(request)
        self._authenticator.check_admin(request)
        await self._authenticator.catch_up(deadline)
        base = self._registry.state.current(entity_key(kind, id))
        if base is None:
            raise self._not_found()
        if headends := self._registry.state.count_headends(id) if kind == CLUSTER else 0:
            raise ApiError(
                409, f"The cluster still has {counted(headends, 'headend')}: remove them first"
            )
        change = AuditedChange(ADMIN, "remove", f"{kind}:{id}", address_of(request.scope))
        async with self._audit_log.recording(change, deadline):
            if not base.removed:
                await self._remove_record(base, deadline)
            response = {self._resource.id_field: id}
            if kind in KINDS:
                response["receipt"] = await self._remove_series(base, deadline)
        return JSON(response)

    async def _read_rotation(self, request: Request, deadline: float) -> KeyRotation:
        if not has_body(request):
            return KeyRotation()
        content = await read_body(request, self._max_body, deadline)
        body = self._rotation.decode(content)
        require_key(body, "new_api_key")
        if body.new_api_key is not None and self._resource.kind == RELAY:
            raise BodyError("new_api_key", "a relay's key has its id in it: leave it out")
        return body

    async def _change(self, base: RegistryRecord, record: RegistryRecord, deadline: float) -> None:
        if not await self._registry.change(base, record, deadline):
            raise ApiError(409, f"The {base.kind} {base.id} was changed by a concurrent request")

    async def _remove_record(self, base: RegistryRecord, deadline: float) -> None:
        ended = self._registry.time.latest_ms() + TOMBSTONE_DELAY_MS
        # Rotations of keys and claims of uses must not keep what is to be removed.
        replaced = await self._registry.change_current(
            base, lambda current: as_removed(current, ended), deadline
        )
        base = replaced or base
        if base.kind == CLUSTER:
            await self._restore_cluster_in_use(base, deadline)

    async def _restore_cluster_in_use(self, base: RegistryRecord, deadline: float) -> None:
        """Undo the removal of a cluster for which a headend was registered after the check.

        The removal has been read back, so every registration before it is known. A registration
        after it is rolled back by the gateway that made it.

        Raises:
            ApiError: 409 if a headend was registered.
        """
        gone = self._registry.state.current(base.key)
        if not self._registry.state.count_headends(base.id) or gone is None or not gone.removed:
            return
        await self._change(gone, base, deadline)
        raise ApiError(
            409, "A headend was registered in the cluster during the request: remove it first"
        )

    async def _remove_series(self, base: RegistryRecord, deadline: float) -> str:
        """Append the removal to the submissions topic, in order with the entity's submissions."""
        assert base.incarnation is not None, "a record that was read has an incarnation"
        removal = Submission(base.kind, base.id, base.incarnation, removed=True)
        try:
            receipt = await self._batcher.submit(base.key, encode_submission(removal), deadline)
        except OverloadedError:
            receipt = None
        if receipt is None:
            raise unavailable(
                f"The {base.kind} is no longer registered, but Kafka did not confirm the removal "
                "of its series in time: send the request again"
            )
        return str(receipt)

    def _to_response(self, record: RegistryRecord) -> dict[str, object]:
        shown: dict[str, object] = {self._resource.id_field: record.id, "name": record.name}
        for attribute in self._resource.response_fields:
            if attribute in record.attributes:
                shown[attribute] = record.attributes[attribute]
        if record.kind == RELAY:
            shown["scope"] = scope_for_response(record)
        if record.kind == CLUSTER:
            shown["headends"] = self._registry.state.count_headends(record.id)
        now = self._registry.time.earliest_ms()
        if record.kind == ENROLMENT:
            return shown | enrolment_fields(record, now)
        if old := [end for end in record.expiring_keys.values() if now < end]:
            shown["old_keys_valid_until"] = [rfc3339(end // 1000) for end in sorted(old)]
        return shown

    def _get_or_404(self, id: str) -> RegistryRecord:
        record = self._registry.get(self._resource.kind, id)
        if record is None:
            raise self._not_found()
        return record

    def _not_found(self) -> ApiError:
        return ApiError(404, f"{self._resource.kind.capitalize()} not found")

    def _id(self, request: Request) -> str:
        id: str = request.path_params[self._resource.id_field]
        return id


def _require_current_key(request: Request, base: RegistryRecord) -> None:
    """Refuse a key that the node generated, if its credential has been replaced already.

    If the node had made that replacement itself, it would repeat it. So the replacement is another
    request's, and its key must stay.

    Raises:
        ApiError: 409.
    """
    if hash_api_key(bearer_credential(request) or "") not in base.api_keys:
        raise ApiError(409, f"The key of the {base.kind} {base.id} was replaced by another request")


def _expiring_keys(base: RegistryRecord, now: int, overlap: int) -> dict[str, int]:
    """Return the old keys that stay valid after a rotation; none without an overlap."""
    if not overlap:
        return {}
    still = {digest: end for digest, end in base.expiring_keys.items() if now < end}
    return still | dict.fromkeys(base.api_keys, now + overlap)


def as_removed(base: RegistryRecord, until: int) -> RegistryRecord:
    """Return the record of a removed entity, which expires at `until` (epoch milliseconds)."""
    return msgspec.structs.replace(
        base,
        removed=True,
        expires_at_ms=until,
        attributes={},
        api_keys=[],
        expiring_keys={},
    )
