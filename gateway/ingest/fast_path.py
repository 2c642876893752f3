"""Selects the requests that bypass ASGI (service.http.connection.fast_path)."""

import re
from collections.abc import Iterable

from contract.kinds import ID_PATTERN, EntityKind
from gateway.ingest.submission import SubmissionEndpoint
from service.http.connection.fast_path import FastPathExchange, RawHeaders

# As the router matches unencoded paths; the router handles everything else.
_TARGET = re.compile(rb"/api/v1/([a-z]+)/(%b)/metrics" % ID_PATTERN.encode())


class FastPathSubmissions:
    """Passes single submissions to their endpoint without ASGI."""

    def __init__(self, endpoints: Iterable[tuple[EntityKind, SubmissionEndpoint]]) -> None:
        self._endpoints = {kind.collection.encode(): endpoint for kind, endpoint in endpoints}

    def __call__(
        self, target: bytes, headers: RawHeaders, body: bytes, exchange: FastPathExchange, /
    ) -> bool:
        match = _TARGET.fullmatch(target)
        if match is None:
            return False
        collection, id = match.groups()
        endpoint = self._endpoints.get(collection)
        if endpoint is None:
            return False
        return endpoint.handle_fast(id.decode(), headers, body, exchange)
