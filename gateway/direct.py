"""Direct submissions: which requests go past ASGI, and where to."""

import re
from collections.abc import Iterable

from contract.kinds import ID_PATTERN, EntityKind
from gateway.submit import Submissions
from service.direct import Exchange, RawHeaders

# As the router matches what is not encoded in any way; everything else is the router's.
_TARGET = re.compile(rb"/api/v1/([a-z]+)/(%b)/metrics" % ID_PATTERN.encode())


class DirectSubmissions:
    """Takes single submissions directly (service.direct)."""

    def __init__(self, endpoints: Iterable[tuple[EntityKind, Submissions]]) -> None:
        self._endpoints = {kind.collection.encode(): endpoint for kind, endpoint in endpoints}

    def __call__(
        self, target: bytes, headers: RawHeaders, body: bytes, exchange: Exchange, /
    ) -> bool:
        match = _TARGET.fullmatch(target)
        if match is None:
            return False
        collection, id = match.groups()
        endpoint = self._endpoints.get(collection)
        if endpoint is None:
            return False
        return endpoint.take_directly(id.decode(), headers, body, exchange)
