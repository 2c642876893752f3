"""Batches: `POST /api/v1/metrics`, with which a relay submits for many entities at once.

An item is accepted once the brokers have it in time, like a submission by itself; one that is bad,
or whose frame failed, is rejected alone.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from contract.registry import RELAY, RegistryRecord
from gateway.arrays import TooManyElementsError
from gateway.cargo import Cargo, Rejected
from gateway.credentials import Credentials
from gateway.decoding import BodyError
from gateway.envelopes import Envelopes
from gateway.items import MAX_ITEMS, Item, ItemsDecoder
from gateway.limits import Limits
from gateway.metrics import GatewayMetrics
from gateway.publish import Publisher
from gateway.reading import JSON, NDJSON, crowded, invalid, read_packed
from gateway.registry import RegistryWriter
from gateway.relays import relay_of, scope_of
from gateway.room import FullError, Room
from gateway.settings import GatewaySettings
from service.bearer import bearer_credential
from service.http import ApiError, TemplateRoute, route, unavailable
from service.slices import Slices

PATH = "/api/v1/metrics"
MAX_BYTES = 8 * 1024 * 1024
MAX_HELD = 16 * MAX_BYTES
"""Bytes of all batches that are being taken at a time."""
_encoder = msgspec.json.Encoder()


class BatchReceived(msgspec.Struct):
    """The answer to a batch."""

    accepted: int
    rejected: list[Rejected]
    receipts: Annotated[list[str], Meta(description="One for each accepted item, in their order.")]
    ignored: list[str] | UnsetType = UNSET


class Batches:
    """Takes batches; `now` is in seconds since the epoch."""

    def __init__(
        self,
        settings: GatewaySettings,
        registry: RegistryWriter,
        credentials: Credentials,
        publisher: Publisher,
        metrics: GatewayMetrics,
        limits: Limits,
        envelopes: Envelopes,
        slices: Slices,
        now: Callable[[], float],
    ) -> None:
        self._answer_within = settings.answer_within_seconds
        self._registry = registry
        self._credentials = credentials
        self._publisher = publisher
        self._metrics = metrics
        self._limits = limits
        self._envelopes = envelopes
        self._slices = slices
        self._now = now
        self._decoder = ItemsDecoder()
        self._room = Room(MAX_HELD)

    def route(self) -> TemplateRoute:
        return route(PATH, self.take, "POST")

    async def take(self, request: Request) -> Response:
        deadline = time.monotonic() + self._answer_within
        credential = bearer_credential(request)
        relay = await self._credentials.check_api_key(
            RELAY, relay_of(credential), credential, request.scope, deadline
        )
        with self._room.holding() as held:
            types = (JSON, NDJSON)
            try:
                type, content = await read_packed(request, MAX_BYTES, deadline, types, held=held)
            except FullError as error:
                raise crowded() from error
            items = await self._decode(type, content, deadline)
            relay = await self._credentials.check_again(relay, credential, request.scope, deadline)
            self._limits.admit(relay, PATH, len(items))
            cargo = Cargo(items, scope_of(relay), self._envelopes, self._now)
            await cargo.sort()
            async with asyncio.TaskGroup() as publishing:
                cargo.publish(self._publisher, deadline, publishing)
                if cargo.unknown:  # the others do not wait for them
                    await self._look_again(cargo, relay, request, deadline)
                    cargo.publish(self._publisher, deadline, publishing)
            return self._answer(cargo)

    async def _decode(self, type: bytes, content: bytes, deadline: float) -> list[Item]:
        decode = self._decoder.decode_array if type == JSON else self._decoder.decode_lines
        try:
            decoded = decode(content, self._now())
            if isinstance(decoded, list):
                return decoded
            return await self._slices.run(decoded, deadline)
        except TimeoutError as error:
            raise unavailable("Other batches are decoded before this one: try again") from error
        except BodyError as error:
            raise invalid(error) from error
        except TooManyElementsError as error:
            raise ApiError(413, f"The batch has more than {MAX_ITEMS} items") from error

    async def _look_again(
        self, cargo: Cargo, relay: RegistryRecord, request: Request, deadline: float
    ) -> None:
        """Look for entities that are not known here in all that the registry holds now.

        That takes time, so the relay is checked again as well.
        """
        credential = bearer_credential(request)
        try:
            await self._credentials.catch_up(deadline)
            await self._credentials.check_again(relay, credential, request.scope, deadline)
        except ApiError as error:
            cargo.leave_unknown(str(error), "refused" if error.status < 500 else "unconfirmed")
        else:
            await cargo.look_again()

    def _answer(self, cargo: Cargo) -> Response:
        for (kind, result), number in cargo.counts().items():
            self._metrics.submissions[kind, result].inc(number)
        if cargo.ignored_count:
            self._metrics.ignored.inc(cargo.ignored_count)
        receipts = [receipt for receipt in cargo.receipts if receipt is not None]
        rejected = cargo.rejected()
        if not receipts and any(each.retry for each in rejected):
            raise ApiError(
                503,
                "Nothing of the batch was accepted: send it again",
                headers={"Retry-After": str(cargo.retry_after)},
                accepted=0,
                rejected=msgspec.to_builtins(rejected),
                receipts=receipts,
            )
        answer = BatchReceived(len(receipts), rejected, receipts, sorted(cargo.ignored) or UNSET)
        return Response(_encoder.encode(answer), media_type="application/json")
