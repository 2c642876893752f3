"""`POST /api/v1/registrations`: many registrations, a line each; the response has a line for each.

Lines are those of a fleet file. If each line has its API key, the request can be repeated after a
lost response, and gets the same one.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER, RegistryRecord
from gateway.api.endpoints import ApiEndpoints, ApiParts, RequestContext
from gateway.api.registrar import BulkOutcome, Registrar, new_record
from gateway.api.registration import cluster_attributes, headend_attributes
from gateway.api.schemas import (
    CLIENT_TYPES,
    ClusterRegistration,
    Id,
    Ignored,
    Text,
    Url,
    new_api_key,
    require_id,
    require_key,
    require_one_of,
    require_text,
)
from gateway.body.arrays import TooManyElementsError
from gateway.body.json import BODY, BodyError, StructDecoder
from gateway.body.reader import NDJSON, read_compressible_body
from gateway.ingest.batch_decoder import split_lines
from gateway.operations import Operation, OperationRoute, operation_route
from service.http.errors import ApiError, unavailable
from service.memory_budget import MemoryBudget
from service.metrics.requests import address_of
from service.slices import Slices

PATH = "/api/v1/registrations"
MAX_BYTES = 4 * 1024 * 1024
MAX_LINES = 2_000
_KINDS = {kind: kind for kind in (CLUSTER, HEADEND.name, CLIENT.name)}
_encoder = msgspec.json.Encoder()


class BulkRegistration(msgspec.Struct):
    """One line: a client, headend or cluster, with the fields that its own endpoint takes."""

    kind: str
    id: Id
    name: Text
    type: str = ""
    cluster_id: str = ""
    region: str = ""
    datacenter: str = ""
    headend_url: Url = ""
    api_key: str | None = None


_decoder = StructDecoder(BulkRegistration)


class BulkResult(msgspec.Struct, omit_defaults=True):
    """The result of one line."""

    status: str
    kind: str = ""
    id: str = ""
    api_key: str = ""
    error: str = ""
    field: str = ""
    ignored: Ignored = msgspec.field(default_factory=list)


class Line(NamedTuple):
    """A valid line: the record, its API key, the id of its cluster, and its unknown fields."""

    record: RegistryRecord
    api_key: str
    cluster_id: str
    ignored: list[str]


class BulkRegistrationEndpoint(ApiEndpoints):
    """Registers clusters, then the headends and clients of a request."""

    def __init__(self, parts: ApiParts, registrar: Registrar) -> None:
        super().__init__(parts)
        self._registrar = registrar
        self._slices = Slices()
        self._memory = MemoryBudget(4 * MAX_BYTES)

    def route(self) -> OperationRoute:
        described = Operation(
            summary="Register many",
            credentials=("admin",),
            bodies=(BulkRegistration,),
            is_lines=True,
            is_packed=True,
            response=BulkResult,
        )
        return operation_route(PATH, POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        context = RequestContext(
            self._deadline(),
            address_of(request.scope),
            action="register-many",
        )
        self._authenticator.check_admin(request)
        with self._memory.reserve() as reservation:
            _, content = await read_compressible_body(
                request, MAX_BYTES, context.deadline, (NDJSON,), reservation=reservation
            )
            self._authenticator.check_admin(request, again=True)
            try:
                lines: list[Line | BulkResult] = await self._slices.run(
                    self._decode(content), context.deadline
                )
            except TimeoutError as error:
                raise unavailable("Other registrations are being decoded: try again") from error
            except TooManyElementsError as error:
                raise ApiError(413, f"There are more than {MAX_LINES} lines") from error
            results = await self._register(lines, context)
        body = b"".join(_encoder.encode(result) + b"\n" for result in results)
        return Response(body, media_type=NDJSON.decode())

    def _decode(self, content: bytes) -> Iterator[Line | BulkResult | None]:
        count = 0
        for block in split_lines(content):
            count += len(block)
            if count > MAX_LINES:
                raise TooManyElementsError
            for line in block:
                yield parse_line(line)

    async def _register(
        self, lines: Sequence[Line | BulkResult], context: RequestContext
    ) -> list[BulkResult]:
        """Clusters first: headends of the same request may name them."""
        results: dict[int, BulkResult] = {
            place: line for place, line in enumerate(lines) if isinstance(line, BulkResult)
        }
        await self._authenticator.catch_up(context.deadline)
        for is_cluster in (True, False):
            places, wanted = [], []
            for place, line in enumerate(lines):
                if isinstance(line, BulkResult) or (line.record.kind == CLUSTER) is not is_cluster:
                    continue
                cluster = None
                if line.cluster_id:
                    cluster = self._registry.get(CLUSTER, line.cluster_id)
                    if cluster is None:
                        results[place] = _result(
                            line,
                            BulkOutcome("refused", "cluster_id: is not a registered cluster"),
                            field="cluster_id",
                        )
                        continue
                    line.record.attributes.update(headend_attributes(cluster))
                places.append(place)
                wanted.append((line.record, cluster))
            for place, outcome in zip(
                places, await self._registrar.register_all(wanted, context), strict=True
            ):
                line = lines[place]
                assert isinstance(line, Line), "others are not registered"
                results[place] = _result(line, outcome)
        return [results[place] for place in range(len(lines))]


def parse_line(line: bytes) -> Line | BulkResult:
    """Return the registration of a line, or its refusal if the line is not valid."""
    kind = id = ""
    try:
        body = _decoder.decode(line)
        ignored = _decoder.unknown_fields(line)
        kind, id = require_one_of("kind", body.kind, _KINDS), body.id
        require_id(body, "id")
        require_text(body, "name")
        attributes = _attributes(body)
        if body.kind == CLUSTER:
            return Line(new_record(kind, id, body.name, attributes), "", "", ignored)
        require_key(body, "api_key")
        api_key = body.api_key or new_api_key(kind, id)
        record = new_record(kind, id, body.name, attributes, api_key)
        return Line(record, api_key, body.cluster_id, ignored)
    except BodyError as error:
        text = str(error).removeprefix(f"{BODY}: ")
        return BulkResult("refused", kind, id, error=text, field=error.field)


def _attributes(body: BulkRegistration) -> dict[str, str]:
    """Return the attributes of a line's record; a headend's cluster is looked up later.

    Raises:
        BodyError: a field is missing, or is not valid.
    """
    if body.kind == CLIENT.name:
        return {"type": require_one_of("type", body.type, CLIENT_TYPES)}
    if body.kind == HEADEND.name:
        require_id(body, "cluster_id")
        return {}
    return cluster_attributes(
        ClusterRegistration(body.name, body.region, body.datacenter, body.headend_url)
    )


def _result(line: Line, outcome: BulkOutcome, **more: Any) -> BulkResult:
    record = line.record
    shown = line.api_key if outcome.status == "registered" else ""
    return BulkResult(
        outcome.status,
        record.kind,
        record.id,
        shown,
        outcome.error,
        ignored=line.ignored,
        **more,
    )
