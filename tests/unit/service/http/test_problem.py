"""Problem details (RFC 9457): who gets them, and what they contain."""

import orjson
import pytest

from service.http.problem import as_problem, wants_problem


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"", False),
        (b"*/*", False),
        (b"application/json", False),
        (b"application/problem+json", True),
        (b"Application/Problem+JSON", True),
        (b"application/json, application/problem+json", True),
        (b"application/json;q=0.5, application/problem+json;q=0.9", True),
        (b"application/json, application/problem+json;q=0.9", False),
        (b"application/problem+json;q=0", False),
        (b"application/problem+json;q=much", False),
        (b"application/problem+json;charset=utf-8", True),
        (b"text/application/problem+json", False),
    ],
)
def test_problem_details_are_sent_to_those_that_ask(accept: bytes, wanted: bool) -> None:
    assert wants_problem(accept) is wanted


def test_an_error_keeps_its_details() -> None:
    problem = orjson.loads(as_problem(400, b'{"error":"is not a number","field":"metrics.a"}'))
    assert problem == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "is not a number",
        "field": "metrics.a",
    }
