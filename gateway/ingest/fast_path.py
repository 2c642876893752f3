"""Direct submissions: which requests go past ASGI, and where to."""

import re
from collections.abc import Iterable

from contract.kinds import ID_PATTERN, EntityKind
from gateway.ingest.submission import SubmissionEndpoint
from service.http.fast_path import FastPathExchange, RawHeaders

# As the router matches what is not encoded in any way; everything else is the router's.
_TARGET = re.compile(rb"/api/v1/([a-z]+)/(%b)/metrics" % ID_PATTERN.encode())


class FastPathSubmissions:
    """Takes single submissions directly (service.http.fast_path)."""

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
