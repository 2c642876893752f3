"""The RateLimit fields of a 429 (draft-ietf-httpapi-ratelimit-headers-10)."""

import pytest

from service.http.errors import too_many
from service.rate_limiter import RateLimiter


@pytest.mark.parametrize(
    ("per_minute", "cost", "policy", "limit"),
    [
        (60, 1, '"items";q=60;w=60', '"items";r=0;t=1'),
        (6000, 1, '"items";q=6000;w=60', '"items";r=0;t=1'),
        (0.5, 1, '"items";q=1;w=120', '"items";r=0;t=120'),
        (1.5, 1, '"items";q=1;w=40', '"items";r=0;t=20'),
        (60, 40, '"items";q=60;w=60', '"items";r=20;t=20'),
    ],
)
def test_the_fields_say_which_limit_and_when(
    per_minute: float, cost: float, policy: str, limit: str
) -> None:
    limiter = RateLimiter(per_minute)
    wait = 0.0
    while not wait:
        wait = limiter.acquire("key", 0.0, cost)
    headers = too_many("Too many", "items", limiter, wait, cost).headers
    assert headers is not None
    assert headers["RateLimit-Policy"] == policy
    assert headers["RateLimit"] == limit
    assert headers["Retry-After"] == limit.rpartition("=")[2]
