"""Parses Accept and Accept-Encoding (RFC 9110, 12.5)."""

from collections.abc import Iterator


def parse_accept(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the members of a header in lower case: name, parameters and weight.

    A weight that is not a number counts as 0, so that the member is not acceptable.
    """
    for part in header.lower().split(","):
        name, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {}
        for piece in rest:
            key, _, value = piece.partition("=")
            parameters[key.strip()] = value.strip()
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 0.0
        yield name, parameters, weight
