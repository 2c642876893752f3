"""Batches: `POST /api/v1/metrics`, with which a relay submits for many entities.

An item is accepted once Kafka has appended it in time, like a single submission. An invalid item,
or one whose frame failed, is rejected without affecting the others.
"""

import asyncio
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import KINDS
from contract.registry import RELAY, RegistryRecord
from gateway.body.arrays import TooManyElementsError
from gateway.body.reader import JSON, NDJSON, read_compressible_body
from gateway.ingest.batch_decoder import MAX_ITEMS, BatchDecoder, Item, build_item_struct
from gateway.ingest.parts import IngestParts
from gateway.ingest.routed_batch import RejectedItem, RoutedBatch
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.named_keys import owner_of
from gateway.registry.refusals import MAX_ITEMS as MAX_REFUSED
from gateway.registry.relay_scope import scope_of
from service.http.bearer_auth import bearer_credential
from service.http.errors import ApiError, unavailable
from service.memory_budget import MemoryBudget

PATH = "/api/v1/metrics"
MAX_BATCH_BYTES = 8 * 1024 * 1024
MEMORY_BUDGET = 16 * MAX_BATCH_BYTES
"""Maximum bytes of all batches in progress."""
_encoder = msgspec.json.Encoder()


class BatchResponse(msgspec.Struct):
    """The response to a batch."""

    accepted: int
    rejected: list[RejectedItem]
    receipts: Annotated[list[str], Meta(description="One for each accepted item, in order.")]
    ignored: list[str] | UnsetType = UNSET


class BatchEndpoint:
    """Handles batches."""

    def __init__(self, parts: IngestParts) -> None:
        self._arrivals = parts.arrivals
        self._authenticator = parts.authenticator
        self._batcher = parts.batcher
        self._metrics = parts.metrics
        self._rate_limits = parts.rate_limits
        self._refusals = parts.refusals
        self._templates = parts.templates
        self._slices = parts.slices
        self._now = parts.now
        self._decoder = BatchDecoder()
        self._memory = MemoryBudget(MEMORY_BUDGET)

    def route(self) -> OperationRoute:
        described = Operation(
            summary="Submit metrics of many clients and headends",
            credentials=("relay",),
            bodies=tuple(build_item_struct(kind) for kind in KINDS.values()),
            is_batch=True,
            is_packed=True,
            response=BatchResponse,
        )
        return operation_route(PATH, POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        deadline = self._arrivals.of(request)
        credential = bearer_credential(request)
        relay = await self._authenticator.check_api_key(
            RELAY, owner_of(credential), credential, request.scope, deadline
        )
        with self._memory.reserve() as reservation:
            types = (JSON, NDJSON)
            type, content = await read_compressible_body(
                request, MAX_BATCH_BYTES, deadline, types, reservation=reservation
            )
            items = await self._decode(type, content, deadline)
            relay = await self._authenticator.check_again(
                relay, credential, request.scope, deadline
            )
            self._rate_limits.admit(relay, PATH, len(items))
            routed = RoutedBatch(items, scope_of(relay), self._templates, self._now)
            await routed.route()
            async with asyncio.TaskGroup() as publishing:
                routed.publish(self._batcher, deadline, publishing)
                if routed.unregistered:  # the registered items do not wait for these
                    await self._retry_unregistered(routed, relay, request, deadline)
                    routed.publish(self._batcher, deadline, publishing)
            self._refusals.items(routed.refused_entities(MAX_REFUSED), relay.id)
            return self._response(routed)

    async def _decode(self, type: bytes, content: bytes, deadline: float) -> list[Item]:
        decode = self._decoder.decode_array if type == JSON else self._decoder.decode_lines
        try:
            decoded = decode(content, self._now())
            if isinstance(decoded, list):
                return decoded
            return await self._slices.run(decoded, deadline)
        except TimeoutError as error:
            raise unavailable("The batch was not decoded in time: try again") from error
        except TooManyElementsError as error:
            raise ApiError(413, f"The batch contains more than {MAX_ITEMS} items") from error

    async def _retry_unregistered(
        self, routed: RoutedBatch, relay: RegistryRecord, request: Request, deadline: float
    ) -> None:
        """Read the registry to its end, and route the items of unknown entities again.

        That takes time, so the relay is checked again too.
        """
        credential = bearer_credential(request)
        try:
            await self._authenticator.catch_up(deadline)
            await self._authenticator.check_again(relay, credential, request.scope, deadline)
        except ApiError as error:
            routed.reject_unregistered(
                str(error), "refused" if error.status < 500 else "unconfirmed"
            )
        else:
            await routed.retry_unregistered()

    def _response(self, routed: RoutedBatch) -> Response:
        for (kind, result), number in routed.result_counts().items():
            self._metrics.submissions[kind, result].inc(number)
        if routed.ignored_count:
            self._metrics.ignored.inc(routed.ignored_count)
        receipts = [receipt for receipt in routed.receipts if receipt is not None]
        rejected = routed.rejected()
        if not receipts and any(each.retry for each in rejected):
            raise ApiError(
                503,
                "No item of the batch was accepted: send the batch again",
                headers={"Retry-After": str(routed.retry_after)},
                accepted=0,
                rejected=msgspec.to_builtins(rejected),
                receipts=receipts,
            )
        response = BatchResponse(len(receipts), rejected, receipts, sorted(routed.ignored) or UNSET)
        return Response(_encoder.encode(response), media_type="application/json")
