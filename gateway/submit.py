"""Submissions: `POST /api/v1/<collection>/{id}/metrics`.

The checks come in the order that docs/api.md promises: path and method (the router), credential,
size, content type, body.
"""

import time

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from contract.frame import Submission, encode_submission, entity_key
from contract.kinds import EntityKind
from contract.registry import RegistryRecord, registered_labels
from gateway.bodies import Body, BodyDecoder, Received
from gateway.credentials import Credentials
from gateway.decoding import BodyError
from gateway.limits import Limits
from gateway.metrics import GatewayMetrics, Result
from gateway.publish import OverloadedError, Publisher
from gateway.reading import invalid, read_body
from gateway.settings import GatewaySettings
from service.bearer import bearer_credential
from service.http import ApiError, TemplateRoute, route, unavailable

_encoder = msgspec.json.Encoder()


class Submissions:
    """Takes the submissions of one kind of entity."""

    def __init__(
        self,
        kind: EntityKind,
        settings: GatewaySettings,
        credentials: Credentials,
        publisher: Publisher,
        metrics: GatewayMetrics,
        limits: Limits,
    ) -> None:
        self._kind = kind
        self._answer_within = settings.answer_within_seconds
        self._max_body = settings.max_body_bytes
        self._credentials = credentials
        self._publisher = publisher
        self._metrics = metrics
        self._limits = limits
        self._decoder = BodyDecoder(kind)
        self._defaults = {
            label.name: label.default
            for label in kind.labels
            if label.submitted and not label.registered
        }

    def route(self) -> TemplateRoute:
        id_name = self._kind.id_label
        path = f"/api/v1/{self._kind.collection}/{{{id_name}:id}}/metrics"
        return route(path, self.take, "POST")

    async def take(self, request: Request) -> Response:
        deadline = time.monotonic() + self._answer_within
        try:
            record, body = await self._admit(request, deadline)
        except ApiError as error:
            self._count("refused" if error.status < 500 else "unconfirmed")
            raise
        return await self._publish(record, body, deadline)

    async def _admit(self, request: Request, deadline: float) -> tuple[RegistryRecord, Body]:
        id = request.path_params[self._kind.id_label]
        credential = bearer_credential(request)
        record = await self._credentials.check(self._kind, id, credential, request.scope, deadline)
        self._limits.admit(record, request.scope)
        content = await read_body(request, self._max_body, deadline)
        try:
            body = self._decoder.decode(content, time.time())
        except BodyError as error:
            raise invalid(error) from error
        if body.ignored_count:
            self._metrics.ignored.inc(body.ignored_count)
        return record, body

    async def _publish(self, record: RegistryRecord, body: Body, deadline: float) -> Response:
        piece = encode_submission(self._submission(record, body))
        key = entity_key(record.kind, record.id)
        try:
            receipt = await self._publisher.submit(key, piece, deadline)
        except OverloadedError as error:
            self._count("overloaded")
            raise unavailable("Too many submissions wait for Kafka: try again") from error
        if receipt is None:
            self._count("unconfirmed")
            raise unavailable("Kafka did not confirm the submission in time: send it again")
        self._count("received")
        answer = Received("metrics_received", str(receipt), body.ignored or UNSET)
        return Response(_encoder.encode(answer), media_type="application/json")

    def _submission(self, record: RegistryRecord, body: Body) -> Submission:
        firm, soft = registered_labels(self._kind, record)
        assert record.generation is not None, "a record that was read has a generation"
        return Submission(
            kind=record.kind,
            id=record.id,
            generation=record.generation,
            labels=firm | body.labels,
            fallback=self._defaults | soft,
            metrics=body.metrics,
            timestamp=body.timestamp,
        )

    def _count(self, result: Result) -> None:
        self._metrics.submissions[self._kind.name, result].inc()
