"""Submissions: `POST /api/v1/<collection>/{id}/metrics`.

The checks come in the order that docs/api.md promises: path and method (the router), credential,
limit, size, content type, body. `take` is the endpoint; `take_directly` does the same for a request
that came whole and whose credential is known here, without a task, a request or a route: that is
nearly every one, and what a submission costs.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import EntityKind
from contract.position import Receipt
from contract.registry import RegistryRecord
from gateway.backlogs import BacklogDecoder, may_be_backlog
from gateway.bodies import MAX_IGNORED_NAMES, Body, Plain, Received
from gateway.credentials import Credentials
from gateway.decoding import BodyError
from gateway.envelopes import Envelope, Envelopes
from gateway.lane import grouped
from gateway.limits import Limits
from gateway.metrics import GatewayMetrics, Result
from gateway.publish import OverloadedError, Publisher
from gateway.reading import JSON, crowded, invalid, read_packed
from gateway.room import FullError, Room
from gateway.settings import GatewaySettings
from service.bearer import bearer_credential, parse_bearer
from service.direct import Exchange, RawHeaders
from service.http import ApiError, TemplateRoute, route, unavailable
from service.requests import RequestMetrics
from service.slices import Slices

log = structlog.get_logger(__name__)

MAX_HELD = 32 * 1024 * 1024
"""Bytes of all bodies of one kind that come slowly, or are unpacked, at a time."""

_encoder = msgspec.json.Encoder()


class Submissions:
    """Takes the submissions of one kind of entity; `now` is in seconds since the epoch."""

    def __init__(
        self,
        kind: EntityKind,
        settings: GatewaySettings,
        credentials: Credentials,
        publisher: Publisher,
        metrics: GatewayMetrics,
        limits: Limits,
        requests: RequestMetrics,
        envelopes: Envelopes,
        slices: Slices,
        now: Callable[[], float],
    ) -> None:
        self._kind = kind
        self._answer_within = settings.answer_within_seconds
        self._max_body = settings.max_body_bytes
        self._credentials = credentials
        self._publisher = publisher
        self._ignored = metrics.ignored
        self.results = {
            result: metrics.submissions[kind.name, result]
            for result in ("received", "refused", "unconfirmed", "overloaded")
        }
        self._limits = limits
        self._requests = requests
        self._envelopes = envelopes
        self._slices = slices
        self._now = now
        self._decoder = BacklogDecoder(kind)
        self._room = Room(MAX_HELD)
        self.template = f"/api/v1/{kind.collection}/{{{kind.id_label}}}/metrics"

    def route(self) -> TemplateRoute:
        id_label = self._kind.id_label
        return route(self.template.replace(id_label, f"{id_label}:id"), self.take, "POST")

    async def take(self, request: Request) -> Response:
        deadline = time.monotonic() + self._answer_within
        try:
            report = await self._admit(request, deadline)
        except FullError as error:
            self.count("overloaded")
            raise crowded() from error
        except ApiError as error:
            self.count("refused" if error.status < 500 else "unconfirmed")
            raise
        receipts = await self._publish(report, deadline)
        answer = Received(
            "metrics_received",
            str(receipts[-1]),
            list(map(str, receipts)) if report.is_backlog else UNSET,
            list(report.ignored) or UNSET,
        )
        return Response(_encoder.encode(answer), media_type="application/json")

    def take_directly(
        self, id: str, headers: RawHeaders, content: bytes, exchange: Exchange
    ) -> bool:
        """Take a request whose checks pass without waiting; leave all others to `take`.

        From the credential on, every answer is given here: what was counted is not counted again.
        """
        if (
            headers.get(b"content-type") != JSON
            or b"content-encoding" in headers
            or len(content) > self._max_body
            or may_be_backlog(content)
        ):
            return False
        credential = parse_bearer(headers.get(b"authorization", b""))
        record = credential and self._credentials.known(self._kind, id, credential)
        if not record:
            return False
        waiting = _Waiting(self, exchange)
        deadline = time.monotonic() + self._answer_within
        try:
            self._limits.admit(record, self.template)
            report = self._read(record, content)
            waiting.ignored = report.ignored
            self._publisher.queue(report.partition, report.pieces[0], deadline, waiting)
        except OverloadedError as error:
            waiting.refuse(_overloaded(error), "overloaded")
        except ApiError as error:
            waiting.refuse(error, "refused")
        except Exception as error:
            log.error("request failed", path=self.template, exc_info=error)
            self.answer(exchange, 500, b'{"error":"Internal server error"}')
        return True

    def answer(self, exchange: Exchange, status: int, body: bytes, headers: bytes = b"") -> None:
        """Answer a request that was taken directly, and count it."""
        seconds = time.perf_counter() - exchange.began
        self._requests.count_request("POST", self.template, status, seconds)
        exchange.answer(status, body, headers)

    def count(self, result: Result, submissions: int = 1) -> None:
        self.results[result].inc(submissions)

    async def _admit(self, request: Request, deadline: float) -> "_Report":
        id = request.path_params[self._kind.id_label]
        credential = bearer_credential(request)
        record = await self._credentials.check(self._kind, id, credential, request.scope, deadline)
        self._limits.admit(record, self.template)
        with self._room.holding() as held:
            _, content = await read_packed(request, self._max_body, deadline, held=held)
            record = await self._credentials.check_again(
                record, credential, request.scope, deadline
            )
            report = await self._read_slowly(record, content, deadline)
            if report.is_backlog:  # decoding it let other requests in between
                await self._credentials.check_again(record, credential, request.scope, deadline)
            return report

    async def _read_slowly(
        self, record: RegistryRecord, content: bytes, deadline: float
    ) -> "_Report":
        """Decode a body; other requests are served between the samples of a backlog.

        Raises:
            ApiError: 400; 503 if it takes until the deadline.
        """
        if not may_be_backlog(content):
            return self._read(record, content)
        envelope, now = self._envelopes.of(record), self._now()
        try:
            body = self._decoder.read(content, now)
            if not isinstance(body, Iterator):
                return self._report(envelope, body, now)
            samples = await self._slices.run(_encoded(body, envelope), deadline)
        except BodyError as error:
            raise invalid(error) from error
        except TimeoutError as error:
            raise unavailable("Other backlogs are decoded before this one: try again") from error
        self._count_ignored(sum(sample.ignored_count for sample in samples))
        ignored: dict[str, None] = {}
        for sample in samples:
            if len(ignored) < MAX_IGNORED_NAMES:
                ignored.update(dict.fromkeys(sample.ignored))
        pieces = [sample.piece for sample in samples]
        return _Report(envelope.partition, pieces, [*ignored][:MAX_IGNORED_NAMES], True)

    def _read(self, record: RegistryRecord, content: bytes) -> "_Report":
        """Decode a body that is surely no backlog.

        Raises:
            ApiError: 400.
        """
        now = self._now()
        try:
            body = self._decoder.read_one(content, now)
            return self._report(self._envelopes.of(record), body, now)
        except BodyError as error:
            raise invalid(error) from error

    def _report(self, envelope: Envelope, body: Body | Plain, now: float) -> "_Report":
        """
        Raises:
            BodyError: what the types of a plain body cannot tell.
        """
        if isinstance(body, Body):
            self._count_ignored(body.ignored_count)
            return _Report(envelope.partition, [envelope.around(body)], body.ignored)
        return _Report(envelope.partition, [envelope.around_plain(body, now)])

    async def _publish(self, report: "_Report", deadline: float) -> list[Receipt]:
        """Publish submissions of one entity, in order; all are confirmed, or the answer is 503."""
        count = len(report.pieces)
        loop = asyncio.get_running_loop()
        groups = [*grouped(report.pieces)]
        answers: list[asyncio.Future[Receipt | None]] = [loop.create_future() for _ in groups]
        try:
            self._publisher.require_room(
                count, sum(len(pieces) for pieces, _ in groups), report.partition
            )
        except OverloadedError as error:
            self.count("overloaded", count)
            raise _overloaded(error) from error
        for (pieces, number), answer in zip(groups, answers, strict=True):
            self._publisher.queue(report.partition, pieces, deadline, answer, number)
        receipts: list[Receipt] = []
        for (_, number), answer in zip(groups, answers, strict=True):
            first = await answer
            if first is not None:
                receipts += [first.behind(place) for place in range(number)]
        if len(receipts) < count:
            self.count("unconfirmed", count)
            raise _unconfirmed()
        self.count("received", count)
        return receipts

    def _count_ignored(self, count: int) -> None:
        if count:
            self._ignored.inc(count)


class _Sample(NamedTuple):
    """A sample of a backlog, encoded."""

    piece: bytes
    ignored: Sequence[str]
    ignored_count: int


def _encoded(samples: Iterator[Body], envelope: Envelope) -> Iterator[_Sample]:
    for sample in samples:
        yield _Sample(envelope.around(sample), sample.ignored, sample.ignored_count)


class _Report(NamedTuple):
    """What was submitted, as it goes to its partition."""

    partition: int
    pieces: list[bytes]
    ignored: Sequence[str] = ()
    is_backlog: bool = False


class _Waiting:
    """A request that was taken directly and waits for the fate of its submission."""

    __slots__ = ("_endpoint", "_exchange", "ignored")

    def __init__(self, endpoint: Submissions, exchange: Exchange) -> None:
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
                endpoint.answer(self._exchange, *_unconfirmed().answer())
                return
            endpoint.count("received")
            ignored = b',"ignored":' + _encoder.encode(self.ignored) if self.ignored else b""
            body = b'{"status":"metrics_received","receipt":"%d-%d-%d-%d"%b}' % (*receipt, ignored)
            endpoint.answer(self._exchange, 200, body)
        except Exception as error:  # the lane, which tells us, must go on
            log.error("request failed", path=endpoint.template, exc_info=error)

    def refuse(self, error: ApiError, result: Result) -> None:
        self._endpoint.count(result)
        self._endpoint.answer(self._exchange, *error.answer())


def _unconfirmed() -> ApiError:
    return unavailable("Kafka did not confirm the submission in time: send it again")


def _overloaded(error: OverloadedError) -> ApiError:
    return unavailable(error.reason, error.retry_after)
