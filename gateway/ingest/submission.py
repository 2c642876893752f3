"""Submissions: `POST /api/v1/<collection>/{id}/metrics`.

Checks are made in the order that docs/api.md guarantees: path and method (the router), credential,
rate limit, size, content type, body. `handle` is the ASGI endpoint. `handle_fast` does the same,
without a task, a request object or routing, if the request is complete and its credential is
cached; that applies to nearly all requests.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import EntityKind
from contract.position import Receipt
from contract.registry import RegistryRecord
from gateway.body.json import MAX_IGNORED_NAMES, BodyError
from gateway.body.reader import JSON, bad_request, overloaded, read_compressible_body
from gateway.ingest.arrival import HEADER
from gateway.ingest.backfill import BackfillDecoder, may_be_backfill
from gateway.ingest.decoder import (
    BodyDecoder,
    ParsedBody,
    SubmissionResponse,
)
from gateway.ingest.encoder import SubmissionTemplate
from gateway.ingest.parts import IngestParts
from gateway.ingest.schema import CanonicalBody
from gateway.metrics import Result
from gateway.produce.batcher import OverloadedError
from gateway.produce.frame_limits import chunk_for_frames
from service.http.application import TemplateRoute, route
from service.http.bearer_auth import parse_bearer
from service.http.connection.fast_path import FastPathExchange, RawHeaders
from service.http.errors import ApiError, unavailable
from service.memory_budget import BudgetExceededError, MemoryBudget
from service.metrics.requests import RequestMetrics

log = structlog.get_logger(__name__)

MEMORY_BUDGET = 32 * 1024 * 1024
"""Maximum bytes of all bodies of one kind that arrive slowly or are being decompressed.
"""

_encoder = msgspec.json.Encoder()


class SubmissionEndpoint:
    """Handles the submissions of one kind."""

    def __init__(self, kind: EntityKind, parts: IngestParts, requests: RequestMetrics) -> None:
        self._kind = kind
        self._arrivals = parts.arrivals
        self._max_body = parts.max_body_bytes
        self._authenticator = parts.authenticator
        self._batcher = parts.batcher
        self._ignored = parts.metrics.ignored
        self.results = {
            result: parts.metrics.submissions[kind.name, result]
            for result in ("received", "refused", "unconfirmed", "overloaded")
        }
        self._rate_limits = parts.rate_limits
        self._refusals = parts.refusals
        self._requests = requests
        self._templates = parts.templates
        self._slices = parts.slices
        self._now = parts.now
        self._single = BodyDecoder(kind)
        self._backfill = BackfillDecoder(kind, self._single)
        self._memory = MemoryBudget(MEMORY_BUDGET)
        self.template = f"/api/v1/{kind.collection}/{{{kind.id_label}}}/metrics"

    def route(self) -> TemplateRoute:
        id_label = self._kind.id_label
        return route(self.template.replace(id_label, f"{id_label}:id"), self.handle, "POST")

    async def handle(self, request: Request) -> Response:
        deadline = self._arrivals.of(request)
        try:
            parsed = await self._admit(request, deadline)
        except BudgetExceededError as error:
            self.count("overloaded")
            raise overloaded() from error
        except ApiError as error:
            self.count("refused" if error.status < 500 else "unconfirmed")
            self._refusals.body(self._kind.name, request.path_params[self._kind.id_label], error)
            raise
        receipts = await self._publish(parsed, deadline)
        response = SubmissionResponse(
            "metrics_received",
            str(receipts[-1]),
            list(map(str, receipts)) if parsed.is_backfill else UNSET,
            list(parsed.ignored) or UNSET,
        )
        return Response(_encoder.encode(response), media_type="application/json")

    def handle_fast(
        self, id: str, headers: RawHeaders, content: bytes, exchange: FastPathExchange
    ) -> bool:
        """Handle a request if all checks pass without waiting; return False to leave it to
        `handle`.

        Once the credential was counted as valid, every response is sent here, so nothing is counted
        twice.
        """
        if (
            headers.get(b"content-type") != JSON
            or b"content-encoding" in headers
            or len(content) > self._max_body
            or may_be_backfill(content)
        ):
            return False
        authorization = headers.get(b"authorization")
        if authorization is None:
            record = self._authenticator.check_cached_certificate(
                self._kind, id, headers, exchange.peer
            )
        else:
            credential = parse_bearer(authorization)
            check = self._authenticator.check_cached
            record = check(self._kind, id, credential) if credential else None
        if record is None:
            return False
        pending = PendingResponse(self, exchange)
        deadline = self._arrivals.deadline(exchange.peer, headers.get(HEADER))
        try:
            self._rate_limits.admit(record, self.template)
            parsed = self._parse(record, content)
            pending.ignored = parsed.ignored
            self._batcher.enqueue(parsed.partition, parsed.payloads[0], deadline, pending)
        except OverloadedError as error:
            pending.refuse(_overloaded_error(error), "overloaded")
        except ApiError as error:
            pending.refuse(error, "refused")
            self._refusals.body(self._kind.name, id, error)
        except Exception as error:
            log.error("request failed", path=self.template, exc_info=error)
            self.respond(exchange, 500, b'{"error":"Internal server error"}')
        return True

    def respond(
        self, exchange: FastPathExchange, status: int, body: bytes, headers: bytes = b""
    ) -> None:
        """Send the response of a fast-path request, and count the request."""
        seconds = time.perf_counter() - exchange.started_at
        self._requests.count_request("POST", self.template, status, seconds)
        exchange.respond(status, body, headers)

    def count(self, result: Result, submissions: int = 1) -> None:
        self.results[result].inc(submissions)

    async def _admit(self, request: Request, deadline: float) -> "ParsedSubmission":
        id = request.path_params[self._kind.id_label]
        credential = self._authenticator.credential_of(request)
        record = await self._authenticator.check(
            self._kind, id, credential, request.scope, deadline
        )
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
        if not may_be_backfill(content):
            return self._parse(record, content)
        template, now = self._templates.get_or_build(record), self._now()
        try:
            body = self._backfill.decode(content, now)
            if not isinstance(body, Iterator):
                return self._encode(template, body, now)
            samples = await self._slices.run(_encoded(body, template), deadline)
        except BodyError as error:
            raise bad_request(error) from error
        except TimeoutError as error:
            raise unavailable("The backlog was not decoded in time: try again") from error
        self._count_ignored(sum(sample.ignored_count for sample in samples))
        ignored: dict[str, None] = {}
        for sample in samples:
            if len(ignored) < MAX_IGNORED_NAMES:
                ignored.update(dict.fromkeys(sample.ignored))
        payloads = [sample.payload for sample in samples]
        return ParsedSubmission(template.partition, payloads, [*ignored][:MAX_IGNORED_NAMES], True)

    def _parse(self, record: RegistryRecord, content: bytes) -> "ParsedSubmission":
        """Decode a body that is certainly not a backlog.

        Raises:
            ApiError: 400.
        """
        now = self._now()
        try:
            body = self._single.decode(content, now)
            return self._encode(self._templates.get_or_build(record), body, now)
        except BodyError as error:
            raise bad_request(error) from error

    def _encode(
        self, template: SubmissionTemplate, body: ParsedBody | CanonicalBody, now: float
    ) -> "ParsedSubmission":
        """Encode a decoded body, and count its ignored metrics.

        Raises:
            BodyError: the timestamp or a label of a canonical body is not valid.
        """
        if isinstance(body, ParsedBody):
            self._count_ignored(body.ignored_count)
            return ParsedSubmission(template.partition, [template.encode(body)], body.ignored)
        return ParsedSubmission(template.partition, [template.encode_canonical(body, now)])

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
        except OverloadedError as error:
            self.count("overloaded", count)
            raise _overloaded_error(error) from error
        for (payloads, number), completion in zip(groups, completions, strict=True):
            self._batcher.enqueue(parsed.partition, payloads, deadline, completion, number)
        receipts: list[Receipt] = []
        for (_, number), completion in zip(groups, completions, strict=True):
            first = await completion
            if first is not None:
                receipts += [first.advance(index) for index in range(number)]
        if len(receipts) < count:
            self.count("unconfirmed", count)
            raise _unconfirmed_error()
        self.count("received", count)
        return receipts

    def _count_ignored(self, count: int) -> None:
        if count:
            self._ignored.inc(count)


class _Sample(NamedTuple):
    """An encoded sample of a backlog."""

    payload: bytes
    ignored: Sequence[str]
    ignored_count: int


def _encoded(samples: Iterator[ParsedBody], template: SubmissionTemplate) -> Iterator[_Sample]:
    for sample in samples:
        yield _Sample(template.encode(sample), sample.ignored, sample.ignored_count)


class ParsedSubmission(NamedTuple):
    """The encoded submissions of one request, with their partition."""

    partition: int
    payloads: list[bytes]
    ignored: Sequence[str] = ()
    is_backfill: bool = False


class PendingResponse:
    """Completes a fast-path request when the result of its submission is known."""

    __slots__ = ("_endpoint", "_exchange", "ignored")

    def __init__(self, endpoint: SubmissionEndpoint, exchange: FastPathExchange) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        self.ignored: Sequence[str] = ()

    def done(self) -> bool:
        return self._exchange.response_complete

    def set_result(self, receipt: Receipt | None) -> None:
        endpoint = self._endpoint
        try:
            if receipt is None:
                endpoint.count("unconfirmed")
                endpoint.respond(self._exchange, *_unconfirmed_error().fast_path_response())
                return
            endpoint.count("received")
            ignored = b',"ignored":' + _encoder.encode(self.ignored) if self.ignored else b""
            body = b'{"status":"metrics_received","receipt":"%d-%d-%d-%d"%b}' % (*receipt, ignored)
            endpoint.respond(self._exchange, 200, body)
        except Exception as error:  # an exception must not stop the batcher
            log.error("request failed", path=endpoint.template, exc_info=error)

    def refuse(self, error: ApiError, result: Result) -> None:
        self._endpoint.count(result)
        self._endpoint.respond(self._exchange, *error.fast_path_response())


def _unconfirmed_error() -> ApiError:
    return unavailable("Kafka did not confirm the submission in time: send it again")


def _overloaded_error(error: OverloadedError) -> ApiError:
    return unavailable(error.reason, error.retry_after)
