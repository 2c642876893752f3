"""Unwraps exception groups."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def first_error(*kinds: type[Exception]) -> Iterator[None]:
    """Raise the first error of these kinds without the exception groups around it.

    `except*` would do this, but before Python 3.11.4 it wraps the exception in a group again.
    """
    error: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        error = group.subgroup(kinds)
        if error is None:
            raise
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error from None
