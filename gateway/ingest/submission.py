"""Submissions: `POST /api/v1/<collection>/{id}/metrics`.

Checks are made in the order that docs/api.md guarantees: path and method (the router), credential,
rate limit, size, content type, body. Most submissions pass them on the fast path
(gateway.ingest.fast_path); the endpoint handles all others: those of unknown credentials,
compressed or slow bodies, and backlogs.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import EntityKind
from contract.position import Receipt
from contract.registry import RegistryRecord
from gateway.body.json import MAX_IGNORED_NAMES
from gateway.body.reader import read_compressible_body
from gateway.ingest.backfill import BackfillDecoder, build_backfill_struct
from gateway.ingest.decoder import BodyDecoder, ParsedBody, SubmissionResponse
from gateway.ingest.encoder import SubmissionTemplate
from gateway.ingest.parts import IngestParts
from gateway.ingest.schema import CanonicalBody, build_struct
from gateway.metrics import Result
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.produce.batcher import OverloadedError
from gateway.produce.frame_limits import chunk_for_frames
from service.http.errors import ApiError, unavailable
from service.memory_budget import BudgetExceededError, MemoryBudget

MEMORY_BUDGET = 32 * 1024 * 1024
"""Maximum bytes of all bodies of one kind that arrive slowly or are being decompressed."""

_encoder = msgspec.json.Encoder()


class SubmissionEndpoint:
    """Handles the submissions of one kind."""

    def __init__(self, kind: EntityKind, parts: IngestParts) -> None:
        self.kind = kind
        self._arrivals = parts.arrivals
        self._max_body = parts.max_body_bytes
        self._authenticator = parts.authenticator
        self._batcher = parts.batcher
        self._ignored = parts.metrics.ignored
        self._results = {
            result: parts.metrics.submissions[kind.name, result]
            for result in ("received", "refused", "unconfirmed", "overloaded")
        }
        self._rate_limits = parts.rate_limits
        self._refusals = parts.refusals
        self._templates = parts.templates
        self._slices = parts.slices
        self._now = parts.now
        self.decoder = BodyDecoder(kind)
        self._backfill = BackfillDecoder(kind, self.decoder)
        self._memory = MemoryBudget(MEMORY_BUDGET)
        self.template = f"/api/v1/{kind.collection}/{{{kind.id_label}}}/metrics"

    def route(self) -> OperationRoute:
        id_label = self.kind.id_label
        described = Operation(
            summary=f"Submit metrics of a {self.kind.name}",
            credentials=(self.kind.credential, "certificate"),
            errors=(404,) if self.kind.credential == "jwt" else (),
            bodies=(build_struct(self.kind), build_backfill_struct(self.kind)),
            is_packed=True,
            response=SubmissionResponse,
        )
        path = self.template.replace(id_label, f"{id_label}:id")
        return operation_route(path, POST=(self.handle, described))

    async def handle(self, request: Request) -> Response:
        deadline = self._arrivals.of(request)
        try:
            parsed = await self._admit(request, deadline)
        except BudgetExceededError:
            self.count("overloaded")
            raise
        except ApiError as error:
            self.count("refused" if error.status < 500 else "unconfirmed")
            self._refusals.body(self.kind.name, request.path_params[self.kind.id_label], error)
            raise
        receipts = await self._publish(parsed, deadline)
        response = SubmissionResponse(
            "metrics_received",
            str(receipts[-1]),
            list(map(str, receipts)) if parsed.is_backfill else UNSET,
            list(parsed.ignored) or UNSET,
        )
        return Response(_encoder.encode(response), media_type="application/json")

    def count(self, result: Result, submissions: int = 1) -> None:
        self._results[result].inc(submissions)

    def count_ignored(self, body: "ParsedBody | CanonicalBody | _Sample") -> Sequence[str]:
        """Count the unknown metrics of a body; return their names for the response."""
        if body.ignored_count:
            self._ignored.inc(body.ignored_count)
        return body.ignored

    async def _admit(self, request: Request, deadline: float) -> "ParsedSubmission":
        id = request.path_params[self.kind.id_label]
        credential = self._authenticator.credential_of(request)
        record = await self._authenticator.check(self.kind, id, credential, request.scope, deadline)
        self._rate_limits.admit(record, self.template)
        with self._memory.reserve() as reservation:
            _, content = await read_compressible_body(
                request, self._max_body, deadline, reservation=reservation
            )
            record = await self._authenticator.check_again(
                record, credential, request.scope, deadline
            )
            parsed = await self._decode_in_slices(record, content, deadline)
            if parsed.is_backfill:  # other requests were served while it was decoded
                await self._authenticator.check_again(record, credential, request.scope, deadline)
            return parsed

    async def _decode_in_slices(
        self, record: RegistryRecord, content: bytes, deadline: float
    ) -> "ParsedSubmission":
        """Decode a body; other requests are served between the samples of a backlog.

        Raises:
            ApiError: 400; 503 if decoding takes until the deadline.
        """
        template, now = self._templates.get_or_build(record), self._now()
        try:
            body = self._backfill.decode(content, now)
            if not isinstance(body, Iterator):
                ignored = self.count_ignored(body)
                return ParsedSubmission(template.partition, [template.encode(body, now)], ignored)
            samples = await self._slices.run(_encoded(body, template), deadline)
        except TimeoutError as error:
            raise unavailable("The backlog was not decoded in time: try again") from error
        names: dict[str, None] = {}
        for sample in samples:
            self.count_ignored(sample)
            if len(names) < MAX_IGNORED_NAMES:
                names.update(dict.fromkeys(sample.ignored))
        payloads = [sample.payload for sample in samples]
        return ParsedSubmission(template.partition, payloads, [*names][:MAX_IGNORED_NAMES], True)

    async def _publish(self, parsed: "ParsedSubmission", deadline: float) -> list[Receipt]:
        """Publish the submissions of one entity in order; respond with 503 unless all are
        confirmed."""
        count = len(parsed.payloads)
        loop = asyncio.get_running_loop()
        groups = [*chunk_for_frames(parsed.payloads)]
        completions: list[asyncio.Future[Receipt | None]] = [loop.create_future() for _ in groups]
        try:
            self._batcher.check_capacity(
                count, sum(len(payloads) for payloads, _ in groups), parsed.partition
            )
        except OverloadedError:
            self.count("overloaded", count)
            raise
        for (payloads, number), completion in zip(groups, completions, strict=True):
            self._batcher.enqueue(parsed.partition, payloads, deadline, completion, number)
        receipts: list[Receipt] = []
        for (_, number), completion in zip(groups, completions, strict=True):
            first = await completion
            if first is not None:
                receipts += [first.advance(index) for index in range(number)]
        if len(receipts) < count:
            self.count("unconfirmed", count)
            raise unconfirmed_error()
        self.count("received", count)
        return receipts


class _Sample(NamedTuple):
    """An encoded sample of a backlog."""

    payload: bytes
    ignored: Sequence[str]
    ignored_count: int


def _encoded(samples: Iterator[ParsedBody], template: SubmissionTemplate) -> Iterator[_Sample]:
    for sample in samples:
        yield _Sample(template.encode_parsed(sample), sample.ignored, sample.ignored_count)


class ParsedSubmission(NamedTuple):
    """The encoded submissions of one request, with their partition."""

    partition: int
    payloads: list[bytes]
    ignored: Sequence[str] = ()
    is_backfill: bool = False


def unconfirmed_error() -> ApiError:
    return unavailable("Kafka did not confirm the submission in time: send it again")
