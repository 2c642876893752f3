"""Submissions on the fast path: one call from the request's bytes to the next frame.

It makes the checks of `gateway.ingest.submission`, in the same order, without a task, a request
object or routing, if none of them has to wait: the request is complete, and its credential is
cached. That applies to nearly all submissions (service.http.connection.fast_path).
"""

import re
import time
from collections.abc import Iterable, Sequence

import msgspec
import structlog

from contract.kinds import ID_PATTERN
from contract.position import Receipt
from gateway.body.reader import JSON
from gateway.ingest.arrival import HEADER
from gateway.ingest.backfill import may_be_backfill
from gateway.ingest.parts import IngestParts
from gateway.ingest.submission import SubmissionEndpoint, unconfirmed_error
from gateway.metrics import Result
from gateway.produce.batcher import OverloadedError
from service.http.connection.fast_path import FastPathExchange, RawHeaders
from service.http.errors import ApiError
from service.metrics.requests import RequestMetrics

log = structlog.get_logger(__name__)

# As the router matches unencoded paths; the router handles everything else.
_TARGET = re.compile(rb"/api/v1/([a-z]+)/(%b)/metrics" % ID_PATTERN.encode())

_encode = msgspec.json.Encoder().encode


class FastPathSubmissions:
    """Handles single submissions without ASGI."""

    def __init__(
        self,
        parts: IngestParts,
        requests: RequestMetrics,
        endpoints: Iterable[SubmissionEndpoint],
    ) -> None:
        self._parts = parts
        self._requests = requests
        self._endpoints = {each.kind.collection.encode(): each for each in endpoints}

    def __call__(
        self, target: bytes, headers: RawHeaders, content: bytes, exchange: FastPathExchange, /
    ) -> bool:
        """Handle a request, or return False to leave it to `SubmissionEndpoint.handle`.

        Once the credential was counted as valid, every response is sent here, so nothing is counted
        twice.
        """
        parts, match = self._parts, _TARGET.fullmatch(target)
        endpoint = self._endpoints.get(match[1]) if match is not None else None
        if (
            match is None
            or endpoint is None
            or headers.get(b"content-type") != JSON
            or b"content-encoding" in headers
            or len(content) > parts.max_body_bytes
            or may_be_backfill(content)
        ):
            return False
        kind, id = endpoint.kind, match[2].decode()
        record = parts.authenticator.check_cached(kind, id, headers, exchange.peer)
        if record is None:
            return False
        pending = PendingResponse(endpoint, exchange, self._requests)
        deadline = parts.arrivals.deadline(exchange.peer, headers.get(HEADER))
        try:
            parts.rate_limits.admit(record, endpoint.template)
            now = parts.now()
            body = endpoint.decoder.decode(content, now)
            template = parts.templates.get_or_build(record)
            pending.ignored = endpoint.count_ignored(body)
            payload = template.encode(body, now)
            parts.batcher.enqueue(template.partition, payload, deadline, pending)
        except OverloadedError as error:
            pending.refuse(error, "overloaded")
        except ApiError as error:
            pending.refuse(error, "refused")
            parts.refusals.body(kind.name, id, error)
        except Exception as error:  # whatever failed, the client gets a response that is counted
            log.error("request failed", path=endpoint.template, exc_info=error)
            pending.respond(500, b'{"error":"Internal server error"}')
        return True


class PendingResponse:
    """Completes a fast-path request when the result of its submission is known."""

    __slots__ = ("_endpoint", "_exchange", "_requests", "ignored")

    def __init__(
        self, endpoint: SubmissionEndpoint, exchange: FastPathExchange, requests: RequestMetrics
    ) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        self._requests = requests
        self.ignored: Sequence[str] = ()
        """Names of unknown metrics."""

    def done(self) -> bool:
        return self._exchange.response_complete

    def set_result(self, receipt: Receipt | None) -> None:
        try:
            if receipt is None:
                self.refuse(unconfirmed_error(), "unconfirmed")
                return
            self._endpoint.count("received")
            ignored = b',"ignored":' + _encode(self.ignored) if self.ignored else b""
            body = b'{"status":"metrics_received","receipt":"%d-%d-%d-%d"%b}' % (*receipt, ignored)
            self.respond(200, body)
        except Exception as error:  # an exception must not stop the batcher
            log.error("request failed", path=self._endpoint.template, exc_info=error)

    def refuse(self, error: ApiError, result: Result) -> None:
        self._endpoint.count(result)
        self.respond(*error.fast_path_response())

    def respond(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Send the response, and count the request."""
        seconds = time.perf_counter() - self._exchange.started_at
        self._requests.count_request("POST", self._endpoint.template, status, seconds)
        self._exchange.respond(status, body, headers)
